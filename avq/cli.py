"""The `avq` command: one verb per job. A verb reads its arguments, calls the library, prints."""

import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from tqdm import tqdm

from avq import __version__, bench, config, cpu, describe, parallel
from avq.checkpoint import load_model
from avq.data import prepare, survey
from avq.errors import InputError
from avq.evaluate import report
from avq.evaluate.evaluation import Evaluator, open_test_images, samples

app = typer.Typer(
    help="Discrete image autoencoders: describe, evaluate, use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def one_line_errors(verb: Callable[..., None]) -> Callable[..., None]:
    """Prints an `InputError` as one line and exits with code 2."""

    @functools.wraps(verb)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None

    return wrapped


def require_folders(*files: Path | None) -> None:
    """Refuses files to write whose folder is missing, before the work that would fill them."""
    for file in filter(None, files):
        if not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {str(file.parent)!r}. Make it first.")


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain narrate there
    if version:
        print(__version__)
        raise typer.Exit


@app.command("describe", context_settings={"ignore_unknown_options": True})
@one_line_errors
def describe_(
    settings: Annotated[
        list[str] | None, typer.Argument(help="--config=FILE[:VARIANT] [--config.KEY=VALUE ...]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shapes, parameters, FLOPs and bits of a config, without training."""
    result = describe.describe(config.load(settings or []))
    print(json.dumps(result, indent=2) if as_json else describe.as_table(result))


@app.command("eval")
@one_line_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="The --workdir of a training run.")],
    data: Annotated[
        str, typer.Option(help="Images, as data.path takes them. Default: the run's own.")
    ] = "",
    split: Annotated[str, typer.Option(help="train, test, or all images of the data.")] = "test",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measures here.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write a page with pictures here.")
    ] = None,
) -> None:
    """Measures a run's reconstructions over a set of images."""
    require_folders(json_file, report_file)
    cpu.keep_memory()
    trained = load_model(run)
    images, summary = open_test_images(trained, data, split)
    mesh = parallel.make_mesh()
    evaluator = Evaluator(trained.model, mesh)
    rows = -(-batch_size // mesh.size) * mesh.size
    with tqdm(total=len(images), unit="img", disable=not sys.stderr.isatty()) as bar:
        measures = evaluator.evaluate(trained.variables, images, summary, rows, bar.update)
    measures |= {
        "step": trained.step,
        "split": split,
        "data": data or trained.config["data"]["path"],
    }
    print("\n".join(f"{name:<16}{report.shown(value)}" for name, value in measures.items()))
    if json_file:
        json_file.write_text(json.dumps(measures, indent=2) + "\n")
    if report_file:
        picture = evaluator.grid(trained.variables, samples(images, summary.size))
        report_file.write_text(report.page(str(run), measures, picture, trained.config))
        print(f"report: {report_file}")


@contextmanager
def progress() -> Iterator[tuple[Callable[[int], None], Callable[[int], object]]]:
    """A bar on a terminal: what tells it the number of images, and what advances it."""
    with tqdm(unit="img", disable=not sys.stderr.isatty()) as bar:

        def start(total: int) -> None:
            bar.reset(total)

        yield start, bar.update


@app.command("prepare")
@one_line_errors
def prepare_(
    path: Annotated[
        str, typer.Argument(metavar="SRC", help="Folder, .zip, .array_record or .parquet.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder to fill.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the squares, pixels.")] = 256,
    split: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share that trains, where SRC has no train/ and test/."),
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="Of the random split.")] = 1967,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one for each core.")
    ] = None,
    max_rejected: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unreadable images at which to stop.")
    ] = 0.01,
) -> None:
    """Cuts and resizes images into ArrayRecord shards, from which training reads fastest."""
    try:
        with progress() as (start, each):
            about = prepare.prepare(
                path,
                target,
                size=size,
                split=split,
                seed=seed,
                workers=workers or os.cpu_count() or 1,
                max_rejected=max_rejected,
                start=start,
                each=each,
            )
    except KeyboardInterrupt:
        print("stopped; the same command goes on from there", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None
    for entry in about["rejected"]:
        print(f"left out {entry['name']}: {entry['reason']}", file=sys.stderr)
    counts = about["counts"]
    print(
        f"{target}: {counts['train']} training and {counts['test']} test images of {size} pixels, "
        f"{len(about['rejected'])} left out, "
        f"{about['near_duplicates']['pairs']} pairs nearly equal across the split\n"
        f"train on them with --config.data.path={target}"
    )


@app.command("data")
@one_line_errors
def data_(
    path: Annotated[str, typer.Argument(metavar="PATH", help="As --config.data.path takes it.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the squares measured.")] = 256,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet here (.png).")] = None,
) -> None:
    """Reads every image once: counts, sizes, pixel statistics, unreadable files."""
    require_folders(json_file, sheet)
    with progress() as (start, each):
        found = survey.survey(path, size, start, each)
    print(found.as_text())
    if json_file:
        json_file.write_text(json.dumps(found.to_json(), indent=2) + "\n")
    if sheet:
        Image.fromarray(found.sheet).save(sheet, "png")
        print(f"contact sheet: {sheet}")


@app.command("bench", context_settings={"ignore_unknown_options": True})
@one_line_errors
def bench_(
    file: Annotated[str, typer.Argument(metavar="CONFIG", help="FILE[:VARIANT]")],
    settings: Annotated[list[str] | None, typer.Argument(help="[--config.KEY=VALUE ...]")] = None,
    runs: Annotated[int, typer.Option(min=10, help="Timed calls of each kind.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measures here.")
    ] = None,
) -> None:
    """Time, speed, operations and memory of a config on this machine."""
    require_folders(json_file)
    loaded = config.load([f"--config={file}", *(settings or [])])
    cpu.keep_memory()
    measured = bench.bench(loaded, runs, lambda stage: print(f"{stage} ...", file=sys.stderr))
    result = {"config": " ".join([file, *(settings or [])]), **measured}
    print(bench.as_table(result))
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app()
