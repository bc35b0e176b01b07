"""`avq export`."""

import itertools
import sys
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import RunArgument, StepOption, verb


@verb(
    "export",
    examples=(
        "avq export runs/ah released/ah",
        "avq export runs/ah released/ah --eval eval.json --images faces/",
    ),
)
def export(
    run: RunArgument,
    out: Annotated[
        Path, typer.Argument(help="Folder to fill; one that avq export wrote is replaced.")
    ],
    *,
    step: StepOption = None,
    eval_file: Annotated[
        Path | None,
        typer.Option(
            "--eval", help="Figures for the model card, of avq eval --json. Default: RUN/eval.json."
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(help="Image files, folders, .zip files: the first eight become a picture."),
    ] = None,
) -> None:
    """Writes a model for others to load: weights, config and model card, without training state."""
    from avq import cpu
    from avq.apply.export import PICTURE, SHOWN, require_released, shown_pairs
    from avq.apply.export import export as write_folder
    from avq.apply.pictures import Pictures
    from avq.apply.tokenizer import load
    from avq.errors import InputError
    from avq.report.card import card, plain_card
    from avq.report.report import saved_report

    require_released(out)
    cpu.keep_memory()
    tokenizer = load(run, step)
    trained, picture = tokenizer.trained, PICTURE if images else ""
    text = plain_card(str(run), trained.config, trained.step, tokenizer.bits_per_pixel, picture)
    figures, found = "without", run / "eval.json"
    if eval_file or found.is_file():
        try:
            text = card(saved_report(run, trained, eval_file or found), picture)
            figures = "with"
        except InputError as error:
            if eval_file:
                raise
            print(f"no figures in the model card: {error}", file=sys.stderr)
    shown = shown_pairs(tokenizer, itertools.islice(Pictures(images), SHOWN)) if images else None
    write_folder(trained, out, text, shown)
    print(f"{out}: model {tokenizer.digest} of step {trained.step:,}, card {figures} figures")
