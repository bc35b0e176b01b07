"""`avq eval`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import require_writable, verb


@verb(
    "eval",
    examples=(
        "avq eval runs/ah --json eval.json --report report.html",
        "avq eval runs/ah --data other_images.zip --split all",
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
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measures here.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write a page with pictures here.")
    ] = None,
) -> None:
    """Measures a run's reconstructions over a set of images."""
    from tqdm import tqdm

    from avq import cpu, parallel
    from avq.evaluate.evaluation import Evaluator, open_test_images, samples, trained_on
    from avq.evaluate.metrics import meanings
    from avq.json_files import replaced, write_json
    from avq.report.page import page, shown
    from avq.trained import load_model

    require_writable(json_file, report_file)
    cpu.keep_memory()
    trained = load_model(run, step)
    images, summary = open_test_images(trained, data, split)
    mesh = parallel.make_mesh()
    evaluator = Evaluator(trained.model, mesh)
    rows = -(-batch_size // mesh.size) * mesh.size
    with tqdm(total=len(images), unit="img", disable=not sys.stderr.isatty()) as bar:
        results = evaluator.evaluate(trained.variables, images, summary, rows, bar.update)
    where = data or trained.config["data"]["path"]
    values = results.measures | {
        "trained_on": trained_on(images, summary, where, trained.config["data"]["path"]),
        "step": trained.step,
        "split": split,
        "data": where,
    }
    print("\n".join(f"{name:<16}{shown(value)}" for name, value in values.items()))
    if json_file:
        write_json(json_file, values)
    if report_file:
        picture = evaluator.grid(trained.variables, samples(images, summary.size))
        text = page(str(run), values, meanings(), picture, trained.config)
        with replaced(report_file) as file:
            file.write_text(text, encoding="utf-8")
        print(f"report: {report_file}")
