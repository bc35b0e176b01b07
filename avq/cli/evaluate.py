"""`avq eval`."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from avq.cli.app import RunArgument, StepOption, require_writable, verb, write_page
from avq.errors import InputError


@verb(
    "eval",
    examples=(
        "avq eval runs/ah --json eval.json --report report.html --baselines",
        "avq eval runs/ah --compare runs/h runs/a --data other_images.zip --split all",
        "avq eval runs/prior --json eval.json --report report.html",
    ),
)
def evaluate(
    run: RunArgument,
    more_runs: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    *,
    data: Annotated[
        str,
        typer.Option(
            help="Images, as data.path takes them; of a prior, a folder of avq tokenize. Default: "
            "the run's own."
        ),
    ] = "",
    split: Annotated[str, typer.Option(help="train, test, or all images of the data.")] = "test",
    step: StepOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    aligned: Annotated[
        str, typer.Option(help="Faces aligned as celeba or celeba_hq: measures eye_colour, too.")
    ] = "",
    inception: Annotated[
        Path | None, typer.Option(help="Weights of InceptionV3: measures fid and kid, too.")
    ] = None,
    fid: Annotated[
        bool, typer.Option(help="Without it, fewer than 2,048 images have a kid alone.")
    ] = True,
    lpips: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of VGG16 or AlexNet, and again those of LPIPS' heads."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measures here.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write a page with pictures here.")
    ] = None,
    card_file: Annotated[
        Path | None, typer.Option("--card", help="Write a model card (README.md) here.")
    ] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Other runs, measured on the same images.")
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Measure patch k-means and image files at the model's bits, too."
        ),
    ] = False,
) -> None:
    """Measures a run's reconstructions over a set of images; of a prior's run, likelihood of codes
    and samples.
    """
    from tqdm import tqdm

    from avq import cpu
    from avq.cli.evaluate_prior import evaluate_prior, is_prior
    from avq.evaluate.baselines import measure_baselines, table, training_codebooks
    from avq.evaluate.comparison import compare_runs, require_same_data
    from avq.evaluate.evaluation import open_test_images
    from avq.evaluate.inside import look_inside
    from avq.evaluate.measuring import Measuring
    from avq.evaluate.metrics.symmetry import ALIGNED, EyeColour
    from avq.evaluate.network_metrics import network_metrics
    from avq.json_files import write_json
    from avq.report import comparison as side_by_side
    from avq.report.card import card
    from avq.report.page import page
    from avq.report.report import make_report
    from avq.trained import load_model

    require_writable(json_file, report_file, card_file)
    if is_prior(run):
        others = (split != "test", aligned, inception, lpips, card_file, compare, baselines)
        if any(others) or more_runs:
            raise InputError(
                "the run of a prior is measured on test codes. Its flags are --data, --step, "
                "--json and --report."
            )
        evaluate_prior(run, data, step, json_file, report_file)
        return
    if aligned and aligned not in ALIGNED:
        raise InputError(f"--aligned: {aligned!r} is not one of {', '.join(ALIGNED)}.")
    if more_runs and not compare:
        raise InputError(f"{str(more_runs[0])!r} follows a run. Give --compare before other runs.")
    cpu.keep_memory()
    names = [str(path) for path in (run, *(compare or ()), *(more_runs or ()))]
    runs = [load_model(name, step) for name in names]
    require_same_data(names, [each.dataset for each in runs], own=not data)
    trained = runs[0]
    images, summary = open_test_images(trained, data, split)
    fit = training_codebooks(trained.config["data"], trained.dataset) if baselines else None
    metrics = {"eye_colour": EyeColour(ALIGNED[aligned])} if aligned else {}
    networks = network_metrics(inception, lpips or (), fid, len(images), summary.size)
    where = data or trained.config["data"]["path"]
    measuring = Measuring(images, summary, where, split, batch_size, metrics, networks)
    total = len(runs) * measuring.passes * len(images)
    with tqdm(total=total, unit="img", disable=not sys.stderr.isatty()) as bar:
        measured = [measuring.measure(each, bar.update) for each in runs]
    results, values = measured[0].results, measured[0].values
    print("\n".join(_lines(values)))
    comparison = None
    if len(runs) > 1:
        comparison = compare_runs(
            names, [each.results for each in measured], [each.values for each in measured]
        )
        print("\n".join(("", *side_by_side.lines(comparison))))
        values["compare"] = side_by_side.as_json(comparison)
    if fit:
        found = measure_baselines(
            trained.model, results, images, summary, fit, measuring.mesh, measuring.batch_size
        )
        print("\n".join(("", *table(found))))
        values["baselines"] = {name: asdict(baseline) for name, baseline in found.items()}
    if json_file:
        write_json(json_file, values)
    if not report_file and not card_file:
        return
    report = make_report(run, trained, measured[0], measuring.mesh, comparison)
    if report_file:
        inside = look_inside(
            trained.model, trained.variables, images, results, summary.size, trained.degradation
        )
        write_page(report_file, page(report, inside), "report")
    if card_file:
        write_page(card_file, card(report), "card")


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    """Values for the terminal: one a line, means with their intervals, sources as a table."""
    from avq.report.text import shown

    for name, value in values.items():
        if not isinstance(value, dict):
            ends = values["interval"].get(name)
            beside = f"   95 %: {shown(ends[0])} to {shown(ends[1])}" if ends else ""
            yield f"{name:<16}{shown(value)}{beside}"
    for network, digest in values["weights"].items():
        yield f"{'weights':<16}{network} {digest}"
    if "kid" not in values:
        yield f"{'not measured':<16}fid, kid: they need --inception FILE"
    if not any(name.startswith("lpips") for name in values):
        yield f"{'not measured':<16}lpips: it needs --lpips FILE"
    for position, (source, means) in enumerate(values["by_source"].items()):
        if not position:
            yield f"\n{'source':<20}" + "".join(f"{key:>11}" for key in means)
        yield f"{source[:19]:<20}" + "".join(f"{shown(mean):>11}" for mean in means.values())
