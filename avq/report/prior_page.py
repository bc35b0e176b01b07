"""HTML page of an evaluation of a prior."""

from collections.abc import Iterator

from avq.apply.pictures import tiled
from avq.evaluate.generation import EXAMPLES, Generated
from avq.report.markup import Html, element, picture, section, table
from avq.report.page import about_run, rendered, tile
from avq.report.report import Report

COLUMNS = 8  # of a grid of images
REPEATED = 0.8  # ratio of distances below which samples are said to repeat training images


def prior_page(report: Report, generated: Generated) -> str:
    """Renders a report of a prior and what it drew as HTML."""
    return rendered(report.title, _parts(report, generated))


def in_words(ratio: float) -> str:
    """What the ratio of a sample's distance from its nearest training image to a test image's says
    of memorisation.
    """
    beginning = f"Samples lie {ratio:.2f} times as far from their nearest training images as "
    if ratio < REPEATED:
        return f"{beginning}test images do: the prior repeats training images, or draws plain ones."
    return f"{beginning}test images do: no sign that the prior repeats training images."


def _parts(report: Report, generated: Generated) -> Iterator[str]:
    yield from _headline(report)
    yield section("Samples", *_samples(generated))
    yield section("Each level alone", *_levels(generated))
    yield section("Nearest training images", *_nearest(report, generated))
    yield section("Bits of codes", _bits(report))
    yield from about_run(report)


def _headline(report: Report) -> Iterator[Html]:
    values = report.values
    bound = "" if values["exact"] else "at most "
    yield element(
        "p",
        f"A prior over the codes of {report.config['tokenizer']}. Codes of {values['n']:,} test "
        f"images. Checkpoint of step {values['step']:,}.",
    )
    low, high = values["interval"]["bits_per_code"]
    training = f"{values['train_bits_per_code']:.3f}"
    yield element(
        "div",
        tile(
            "bits a code, test",
            f"{bound}{values['bits_per_code']:.3f}",
            f"95 %: {low:.3f} to {high:.3f}",
        ),
        tile("of training images", f"{bound}{training}"),
        tile("by frequencies alone", f"{values['frequency_bits_per_code']:.3f}", "test images"),
        tile("bits a dimension", f"{bound}{values['bits_per_dim']:.4f}", "pixels times channels"),
        tile("distance to training", f"{values['nearest_ratio']:.2f}", "samples over test images"),
        class_="tiles",
    )


def _samples(generated: Generated) -> Iterator[Html]:
    samples = generated.samples
    caption = f"{len(samples)} samples, not chosen: temperature 1, all codes."
    yield element("div", picture(tiled(list(samples), COLUMNS), caption), class_="charts")


def _levels(generated: Generated) -> Iterator[Html]:
    rows = [generated.originals, *generated.by_level]
    names = ["all codes kept", *(f"level {i + 1} drawn" for i in range(len(generated.by_level)))]
    yield element(
        "p",
        "Test images as their codes decode; below, the same with the codes of one level drawn from "
        "the prior and those of the other levels kept. A level is drawn given the coarser ones.",
        class_="soft",
    )
    columns = len(generated.originals)
    whole = tiled([image for row in rows for image in row], columns)
    yield element("div", picture(whole, f"From the top: {', '.join(names)}."), class_="charts")


def _nearest(report: Report, generated: Generated) -> Iterator[Html]:
    values = report.values
    yield element("p", in_words(values["nearest_ratio"]))
    yield element(
        "p",
        f"Distances are root mean squared differences of levels at 16x16 pixels, to "
        f"{values['train_compared']:,} training images as their codes decode; medians: "
        f"{values['sample_to_train']:.1f} of samples, {values['test_to_train']:.1f} of test "
        "images.",
        class_="soft",
    )
    cards = []
    for sample, images, distances in zip(
        generated.samples[:EXAMPLES], generated.nearest, generated.distances, strict=True
    ):
        pictures = [picture(sample, "sample")]
        for image, distance in zip(images, distances, strict=True):
            pictures.append(picture(image, f"training, {distance:.1f}", "training image"))
        cards.append(element("div", element("div", *pictures, class_="row"), class_="card"))
    yield element("div", *cards, class_="cards")


def _bits(report: Report) -> Html:
    values = report.values
    levels = zip(
        values["bits_per_code_by_level"], values["train_bits_per_code_by_level"], strict=True
    )
    figures = {f"level {number}": bits for number, bits in enumerate(levels, start=1)}
    figures["all"] = values["bits_per_code"], values["train_bits_per_code"]
    rows = [
        (name, f"{test:.3f}", f"{train:.3f}", f"{test - train:+.3f}")
        for name, (test, train) in figures.items()
    ]
    return table(rows, ("bits a code", "test", "training", "difference"))
