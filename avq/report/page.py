"""HTML page of an evaluation: one file that needs no other, nor a script."""

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from avq.evaluate.ablation import Quality
from avq.evaluate.baselines import Baseline, behind
from avq.evaluate.inside import PLACES, Example, Inside
from avq.report.charts import histogram, line_chart
from avq.report.comparison import comparison_table
from avq.report.markup import Html, details, element, escaped, joined, picture, section, table
from avq.report.pictures import ERROR_RANGE, attention_picture, code_map, error_map
from avq.report.report import Report
from avq.report.text import duration, shown
from avq.report.training import curves, training_seconds

# Key, heading and format of the figures at the top.
HEADLINE = (
    ("psnr", "PSNR, dB", "{:.2f}"),
    ("ssim", "SSIM", "{:.3f}"),
    ("mae", "mean absolute error", "{:.3f}"),
    ("bits_per_pixel", "bits a pixel", "{:.3f}"),
    ("dots", "dots in flat areas", "{:.0%}"),
)
BY_LEVEL = ("active_codes", "usage", "perplexity", "entropy_bits", "effective_rank")


def page(report: Report, inside: Inside) -> str:
    """Renders a report and the inside of its model as HTML."""
    return rendered(report.title, _parts(report, inside))


def rendered(title: str, parts: Iterable[str]) -> str:
    """HTML of parts under a title."""
    template = Template(files("avq.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=escaped(title), body=joined(parts))


def about_run(report: Report) -> Iterator[str]:
    """Parts that end a page: all measures, training, environment, config."""
    yield section("All measures", _measures(report))
    yield section("Training", *_training(report))
    rows = [(name, text) for name, text in report.environment.items()]
    yield section("Where it was measured", table(rows))
    config = element("pre", json.dumps(report.config, indent=2))
    yield section("Config", details("config.json", config))


def tile(name: str, number: str, below: str = "") -> Html:
    """A figure of the headline."""
    parts = element("span", name), element("b", number), element("span", below)
    return element("div", *parts, class_="tile")


def _parts(report: Report, inside: Inside) -> Iterator[str]:
    values = report.values
    yield from _headline(values)
    if report.comparison:
        yield section("Comparison", *comparison_table(report.comparison))
    if values.get("baselines"):
        yield section("Baselines", *_baselines(values))
    yield section("Examples", *_examples(inside))
    yield section("Codes", *_codes(values, inside))
    yield section("What each level carries", *_ablation(inside))
    if inside.row_sums:
        yield section("Attention", *_attention(inside))
    if values.get("by_source"):
        yield section("By source", _nested(values["by_source"], "source"))
    yield from about_run(report)


def _headline(values: Mapping[str, Any]) -> Iterator[Html]:
    size, trained_on = values["image_size"], values["trained_on"]
    yield element(
        "p",
        f"{values['n']:,} {values['split']} images of {values['data']}: {values['crop']}, "
        f"{size}x{size} pixels. Checkpoint of step {values['step']:,}.",
    )
    if trained_on:
        yield element("p", f"The run was trained on {trained_on:,} of these images.", class_="warn")
    tiles = []
    for key, name, form in HEADLINE:
        if key in values:
            ends = values["interval"].get(key)
            below = f"95 %: {form.format(ends[0])} to {form.format(ends[1])}" if ends else ""
            if key == "dots":
                below = f"originals: {form.format(values['dots_of_inputs'])}"
            tiles.append(tile(name, form.format(values[key]), below))
    yield element("div", *tiles, class_="tiles")


def _baselines(values: Mapping[str, Any]) -> Iterator[Html]:
    yield element(
        "p",
        "Textbook codes of raw patches at the model's bits, and image files of the nearest size, "
        "with their headers. model_psnr is the model's over the same images.",
        class_="soft",
    )
    yield _nested(values["baselines"], "baseline")
    if sentence := behind({name: Baseline(**of) for name, of in values["baselines"].items()}):
        yield element("p", sentence, class_="warn")


def _examples(inside: Inside) -> Iterator[Html]:
    yield element(
        "p",
        "By PSNR. Each card: input, reconstruction, absolute error (black is none, the brightest "
        f"{ERROR_RANGE} of 255 levels or more); then the grids of codes, each code in a colour of "
        "its own.",
        class_="soft",
    )
    for group in dict.fromkeys(example.group for example in inside.examples):
        cards = [_card(e, inside) for e in inside.examples if e.group == group]
        yield element("h3", group.capitalize())
        yield element("div", *cards, class_="cards")


def _card(example: Example, inside: Inside) -> Html:
    figures = example.figures
    text = f"{figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}, {example.name}"
    maps = [
        picture(code_map(grid, k), f"codes, level {level}", f"codes of {example.name}")
        for level, (grid, k) in enumerate(
            zip(example.codes, inside.codebook_sizes, strict=True), start=1
        )
    ]
    pictures = (
        picture(example.image, "input", example.name),
        picture(example.reconstruction, "reconstruction", f"reconstruction of {example.name}"),
        picture(error_map(example.image, example.reconstruction), "error", "error map"),
        *maps,
    )
    return element(
        "div", element("p", text), element("div", *pictures, class_="row"), class_="card"
    )


def _codes(values: Mapping[str, Any], inside: Inside) -> Iterator[Html]:
    keys = [key for key in BY_LEVEL if key in values]
    rows = [
        (
            f"{level + 1}",
            "yes" if level < values["decoded_levels"] else "no",
            *(shown(values[key][level]) for key in keys),
        )
        for level in range(len(inside.codebook_sizes))
    ]
    yield table(rows, ("level", "sent", *keys))
    series = {}
    for level, (grids, k) in enumerate(
        zip(inside.ablation.codes, inside.codebook_sizes, strict=True), start=1
    ):
        counts = np.sort(np.bincount(grids.ravel(), minlength=k))[::-1]
        series[f"level {level}"] = (np.arange(1, k + 1), 100 * counts / counts.sum())
    chart = Html(line_chart(series, "codes, most used first", "share of choices, %"))
    caption = f"Use of the codes in {inside.ablation.n} images; even use would be a level line."
    yield element(
        "div", element("div", element("p", caption, class_="soft"), chart), class_="charts"
    )


def _ablation(inside: Inside) -> Iterator[Html]:
    ablation = inside.ablation
    yield element(
        "p",
        f"Reconstructions of {ablation.n} images with the codes of one level replaced: by those of "
        "another image, or by the level's most used code everywhere. Codes that are sent are "
        "replaced before decoding. A level that is not sent is replaced inside the encoder, where "
        "it acts on the next finer one, which is encoded anew beside it.",
        class_="soft",
    )

    def row(name: str, quality: Quality) -> tuple[str, ...]:
        difference = quality.psnr - ablation.unchanged.psnr
        return name, f"{quality.psnr:.2f}", f"{difference:+.2f}", f"{quality.mae:.4f}"

    rows = [row("all codes as they are", ablation.unchanged)]
    for number, level in enumerate(ablation.levels, start=1):
        name = f"level {number}, {'sent' if level.sent else 'not sent'}"
        rows.append(row(f"{name}: codes of another image", level.shuffled))
        rows.append(row(f"{name}: most used code", level.constant))
    yield table(rows, ("", "psnr, dB", "change", "mae"))


def _attention(inside: Inside) -> Iterator[Html]:
    yield element(
        "p",
        "Rows of the attention matrix W: how much the framed pixel takes from each other one, over "
        "the image in grey. Brightness is relative to the largest weight, which the caption gives "
        "as a multiple of even attention.",
        class_="soft",
    )
    first = {example.group: example for example in reversed(inside.examples)}
    for level in range(len(inside.row_sums)):
        cards = []
        for example in reversed(first.values()):
            pictures = [
                picture(attention_picture(example.image, row, place), _caption(row))
                for row, place in zip(example.attention[level], PLACES, strict=True)
            ]
            cards.append(element("div", element("div", *pictures, class_="row"), class_="card"))
        yield element("h3", f"Level {level + 1}")
        yield element("div", *cards, class_="cards")
    sums = {f"level {i}": values for i, values in enumerate(inside.row_sums, start=1)}
    text = "Sums of the rows of W: how much attention adds up to."
    chart = Html(histogram(sums, "sum of a row of W"))
    yield element("div", element("div", element("p", text, class_="soft"), chart), class_="charts")


def _caption(row: np.ndarray) -> str:
    return f"sum {row.sum():.2f}, largest {row.max() / max(row.mean(), 1e-12):.1f}x even"


def _measures(report: Report) -> Html:
    rows = []
    for key, value in report.values.items():
        if not isinstance(value, Mapping):
            ends = report.values["interval"].get(key)
            between = f"{shown(ends[0])} to {shown(ends[1])}" if ends else ""
            rows.append(
                (_with_note(key, report.meanings.get(key, "")), _with_note(shown(value), between))
            )
    return table(rows, ("", "value and 95 % interval"))


def _with_note(text: str, note: str) -> Html:
    return joined((text, element("small", note)) if note else (text,))


def _training(report: Report) -> Iterator[Html]:
    seconds = training_seconds(report.records, report.config["data"]["batch_size"])
    steps = report.values["step"]
    batch = report.config["data"]["batch_size"]
    cost = f", {duration(seconds)} of training steps" if seconds else ""
    yield element("p", f"{steps:,} steps of {batch} images{cost}.")
    charts = [
        element("div", element("h3", title), Html(svg))
        for title, svg in curves(report.records).items()
    ]
    yield element("div", *charts, class_="charts")


def _nested(rows: Mapping[str, Mapping[str, Any]], name: str) -> Html:
    """A table of figures by name."""
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [(label, *(shown(row.get(key, "")) for key in keys)) for label, row in rows.items()]
    return table(cells, (name, *keys))
