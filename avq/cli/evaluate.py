"""`avq eval`."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from avq.cli.app import require_writable, verb
from avq.errors import InputError


@verb(
    "eval",
    examples=(
        "avq eval runs/ah --json eval.json --report report.html",
        "avq eval runs/ah --data other_images.zip --split all",
        "avq eval runs/ah --baselines",
    ),
)
def evaluate(
    run: Annotated[Path, typer.Argument(help="The --workdir of a training run.")],
    data: Annotated[
        str, typer.Option(help="Images, as data.path takes them. Default: the run's own.")
    ] = "",
    split: Annotated[str, typer.Option(help="train, test, or all images of the data.")] = "test",
    step: Annotated[
        int | None, typer.Option(min=0, help="Checkpoint of this step. Default: the newest.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    aligned: Annotated[
        str, typer.Option(help="Faces aligned as celeba or celeba_hq: measures eye_colour, too.")
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measures here.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write a page with pictures here.")
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Measure patch k-means and image files at the model's bits, too."
        ),
    ] = False,
) -> None:
    """Measures a run's reconstructions over a set of images."""
    from tqdm import tqdm

    from avq import cpu, parallel
    from avq.evaluate.baselines import measure_baselines, table, training_codebooks
    from avq.evaluate.evaluation import Evaluator, open_test_images, samples, trained_on
    from avq.evaluate.metrics import meanings
    from avq.evaluate.metrics.symmetry import ALIGNED, EyeColour
    from avq.evaluate.results import intervals
    from avq.evaluate.sources import by_source
    from avq.json_files import replaced, write_json
    from avq.report.page import page
    from avq.trained import load_model

    require_writable(json_file, report_file)
    if aligned and aligned not in ALIGNED:
        raise InputError(f"--aligned: {aligned!r} is not one of {', '.join(ALIGNED)}.")
    cpu.keep_memory()
    trained = load_model(run, step)
    images, summary = open_test_images(trained, data, split)
    fit = training_codebooks(trained.config["data"], trained.dataset) if baselines else None
    mesh = parallel.make_mesh()
    more = {"eye_colour": EyeColour(ALIGNED[aligned])} if aligned else {}
    evaluator = Evaluator(trained.model, mesh, more)
    rows = -(-batch_size // mesh.size) * mesh.size
    with tqdm(total=len(images), unit="img", disable=not sys.stderr.isatty()) as bar:
        results = evaluator.evaluate(trained.variables, images, summary, rows, bar.update)
    where = data or trained.config["data"]["path"]
    values: dict[str, Any] = results.measures | {
        "interval": intervals(results.per_image),
        "by_source": by_source(results, images),
        "image_size": summary.size,
        "crop": "centre square",
        "range": "[-1, 1]; ssim and ms_ssim [0, 1]",
        "trained_on": trained_on(images, summary, where, trained.config["data"]["path"]),
        "step": trained.step,
        "split": split,
        "data": where,
    }
    print("\n".join(_lines(values)))
    if fit:
        measured = measure_baselines(trained.model, results, images, summary, fit, mesh, rows)
        print("\n".join(("", *table(measured))))
        values["baselines"] = {name: asdict(baseline) for name, baseline in measured.items()}
    if json_file:
        write_json(json_file, values)
    if report_file:
        picture = evaluator.grid(trained.variables, samples(images, summary.size))
        about = meanings(evaluator.metrics)
        text = page(str(run), values, about, picture, trained.config)
        with replaced(report_file) as file:
            file.write_text(text, encoding="utf-8")
        print(f"report: {report_file}")


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    """Values for the terminal: one a line, means with their intervals, sources as a table."""
    from avq.report.page import shown

    for name, value in values.items():
        if not isinstance(value, dict):
            ends = values["interval"].get(name)
            beside = f"   95 %: {shown(ends[0])} to {shown(ends[1])}" if ends else ""
            yield f"{name:<16}{shown(value)}{beside}"
    for position, (source, means) in enumerate(values["by_source"].items()):
        if not position:
            yield f"\n{'source':<20}" + "".join(f"{key:>11}" for key in means)
        yield f"{source[:19]:<20}" + "".join(f"{shown(mean):>11}" for mean in means.values())
