"""`avq eval`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avq.cli.app import (
    FinishOption,
    RunArgument,
    StepOption,
    WorkerOption,
    print_left_out,
    print_share,
    progress,
    require_writable,
    resumable,
    verb,
    worker_given,
    write_page,
)
from avq.errors import InputError

if TYPE_CHECKING:
    from avq.evaluate.baselines import Fit
    from avq.evaluate.comparison import Comparison
    from avq.evaluate.measuring import Measured, Measuring
    from avq.evaluate.metrics import Metric
    from avq.trained import TrainedModel
    from avq.workers import Worker

DataOption = Annotated[
    str,
    typer.Option(
        help="Images, as data.path takes them; of a prior, a folder of avq tokenize. Default: the "
        "run's own."
    ),
]
SplitOption = Annotated[str, typer.Option(help="train, test, or all images of the data.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Images at a time.")]
AlignedOption = Annotated[
    str, typer.Option(help="Faces aligned as celeba or celeba_hq: measures eye_colour, too.")
]
InceptionOption = Annotated[
    Path | None, typer.Option(help="Weights of InceptionV3: measures fid and kid, too.")
]
FidOption = Annotated[
    bool, typer.Option(help="Without it, fewer than 2,048 images have a kid alone.")
]
LpipsOption = Annotated[
    list[Path] | None,
    typer.Option(help="Weights of VGG16 or AlexNet, and again those of LPIPS' heads."),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the measures here; workers keep theirs in the folder FILE.shards.",
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Write a page with pictures here.")
]
CardOption = Annotated[
    Path | None, typer.Option("--card", help="Write a model card (README.md) here.")
]
CompareOption = Annotated[
    list[Path] | None, typer.Option(help="Other runs, measured on the same images.")
]
BaselinesOption = Annotated[
    bool,
    typer.Option(
        "--baselines", help="Measure patch k-means and image files at the model's bits, too."
    ),
]


@verb(
    "eval",
    examples=(
        "avq eval runs/ah --json eval.json --report report.html --baselines",
        "avq eval runs/ah --compare runs/h runs/a --data other_images.zip --split all",
        "avq eval runs/prior --json eval.json --report report.html",
        "avq eval runs/ah --json eval.json --worker 0/8",
        "avq eval runs/ah --json eval.json --finish",
    ),
)
def evaluate(
    run: RunArgument,
    more_runs: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    *,
    data: DataOption = "",
    split: SplitOption = "test",
    step: StepOption = None,
    batch_size: BatchOption = 32,
    aligned: AlignedOption = "",
    inception: InceptionOption = None,
    fid: FidOption = True,
    lpips: LpipsOption = None,
    json_file: JsonOption = None,
    report_file: ReportOption = None,
    card_file: CardOption = None,
    compare: CompareOption = None,
    baselines: BaselinesOption = False,
    worker: WorkerOption = None,
    finish: FinishOption = False,
) -> None:
    """Measures a run's reconstructions over a set of images; of a prior's run, likelihood of codes
    and samples.
    """
    from avq import cpu
    from avq.cli.evaluate_prior import evaluate_prior, is_prior
    from avq.evaluate.baselines import training_codebooks
    from avq.evaluate.evaluation import open_test_images
    from avq.evaluate.measuring import Measuring
    from avq.evaluate.network_metrics import network_metrics
    from avq.json_files import write_json
    from avq.storage.copies import local
    from avq.storage.objects import at

    require_writable(json_file, report_file, card_file)
    share = worker_given(worker, finish)
    place = local(run)
    if is_prior(place):
        others = (split != "test", aligned, inception, lpips, card_file, compare, baselines)
        if any(others) or more_runs or share or finish:
            raise InputError(
                "the run of a prior is measured on test codes. Its flags are --data, --step, "
                "--json and --report."
            )
        evaluate_prior(place, data, step, json_file, report_file)
        return
    if (share or finish) and not json_file:
        raise InputError("--worker and --finish need --json FILE: shards wait in FILE.shards.")
    metrics = _aligned_metrics(aligned)
    if more_runs and not compare:
        raise InputError(f"{str(more_runs[0])!r} follows a run. Give --compare before other runs.")
    cpu.keep_memory()
    names = [str(at(path)) for path in (run, *(compare or ()), *(more_runs or ()))]
    runs = _load_runs(names, step, own=not data)
    config, where = runs[0].config["data"], data or runs[0].config["data"]["path"]
    images, summary = open_test_images(runs[0], data, split)
    fit = training_codebooks(config, runs[0].dataset) if baselines and not share else None
    networks = network_metrics(inception, lpips or (), fid, len(images), summary.size)
    measuring = Measuring(images, summary, where, split, batch_size, metrics, networks)
    if json_file and (share or finish):
        measured = _measure_shards(json_file, measuring, runs, share)
    else:
        measured = _measure(measuring, runs)
    if share:
        return
    print("\n".join(_lines(measured[0].values)))
    comparison = _compare(names, measured) if len(runs) > 1 else None
    if fit:
        _add_baselines(measured[0], measuring, runs[0], fit)
    if json_file:
        write_json(json_file, measured[0].values)
    if report_file or card_file:
        _write_pages(run, runs[0], measured[0], measuring, comparison, report_file, card_file)


def _aligned_metrics(kind: str) -> "dict[str, Metric[Any]]":
    """Metrics of aligned faces, by name; none for a `kind` of ''."""
    from avq.evaluate.metrics.symmetry import ALIGNED, EyeColour

    if kind and kind not in ALIGNED:
        raise InputError(f"--aligned: {kind!r} is not one of {', '.join(ALIGNED)}.")
    # Workers tell one alignment from the other by the name.
    return {f"eye_colour_{kind}": EyeColour(ALIGNED[kind])} if kind else {}


def _load_runs(names: Sequence[str], step: int | None, own: bool) -> "list[TrainedModel]":
    """Loads runs that can be measured on the same images.

    Args:
        names: of the runs.
        step: of the checkpoint; None for the best.
        own: whether the images are those of the runs.
    """
    from avq.evaluate.comparison import require_same_data
    from avq.trained import load_model

    runs = [load_model(name, step) for name in names]
    datasets = [{**each.dataset, "channels": each.model.channels} for each in runs]
    require_same_data(names, datasets, own)
    return runs


def _measure(measuring: "Measuring", runs: "Sequence[TrainedModel]") -> "list[Measured]":
    """Measures runs under a progress bar."""
    with progress() as (on_total, on_done):
        on_total(len(runs) * measuring.passes * len(measuring.images))
        return [measuring.measure(each, on_done) for each in runs]


def _measure_shards(
    file: Path, measuring: "Measuring", runs: "Sequence[TrainedModel]", worker: "Worker | None"
) -> "list[Measured]":
    """Measures a worker's shards, and returns nothing; without a worker, adds up those of all.

    Args:
        file: that the measures will be written to.
    """
    from avq.evaluate.shards import MeasuredShards

    with resumable(), progress() as (on_total, on_done):
        shards = MeasuredShards(file, measuring, runs, on_done)
        about = shards.fill(worker, worker is None, on_total, on_done)
    print_left_out(about)
    if worker:
        print_share(file, worker)
        return []
    return shards.measured(about)


def _compare(names: Sequence[str], measured: "Sequence[Measured]") -> "Comparison":
    """Compares runs, prints how, and adds it to the values of the first."""
    from avq.evaluate.comparison import compare_runs
    from avq.report.comparison import as_json, lines

    comparison = compare_runs(
        names, [each.results for each in measured], [each.values for each in measured]
    )
    print("\n".join(("", *lines(comparison))))
    measured[0].values["compare"] = as_json(comparison)
    return comparison


def _add_baselines(
    measured: "Measured", measuring: "Measuring", trained: "TrainedModel", fit: "Fit"
) -> None:
    """Measures the baselines of a run, prints them, and adds them to its values."""
    from avq.evaluate.baselines import measure_baselines, table

    about = measuring.images, measuring.summary, fit, measuring.mesh, measuring.batch_size
    baselines = measure_baselines(trained.model, measured.results, *about)
    print("\n".join(("", *table(baselines))))
    measured.values["baselines"] = {name: asdict(each) for name, each in baselines.items()}


def _write_pages(
    run: Path,
    trained: "TrainedModel",
    measured: "Measured",
    measuring: "Measuring",
    comparison: "Comparison | None",
    report_file: Path | None,
    card_file: Path | None,
) -> None:
    """Writes a run's report, with pictures of the images that it was measured on, and its card."""
    from avq.evaluate.inside import look_inside
    from avq.report.card import card
    from avq.report.page import page
    from avq.report.report import make_report

    report = make_report(run, trained, measured, measuring.mesh, comparison)
    if report_file:
        about = measuring.images, measured.results, measuring.summary.size, trained.degradation
        inside = look_inside(trained.model, trained.variables, *about)
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
