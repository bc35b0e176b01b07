"""The `avq` command: one verb per job. A verb reads its arguments, calls the library, prints."""

import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from avq import __version__, bench, config, cpu, describe, parallel
from avq.checkpoint import load_model
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
        str, typer.Option(help="Folder or .zip of images. Default: the run's own data.")
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
