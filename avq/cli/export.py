"""`avq export`."""

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avq.cli.app import RunArgument, StepOption, verb
from avq.cli.codec import codec_of
from avq.errors import InputError

if TYPE_CHECKING:
    from avq.apply.codec.stored import Codec
    from avq.apply.tokenizer import Tokenizer


@verb(
    "export",
    examples=(
        "avq export runs/ah released/ah --codec",
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
    codec: Annotated[
        bool,
        typer.Option(
            "--codec", help="Fit the codec of avq compress first, if the run has none yet."
        ),
    ] = False,
) -> None:
    """Writes a model for others to load: weights, config, model card and the codec if there is one,
    without training state.
    """
    from avq import cpu
    from avq.apply.export import PICTURE, SHOWN, require_released, shown_pairs
    from avq.apply.export import export as write_folder
    from avq.apply.pictures import Pictures
    from avq.apply.tokenizer import load
    from avq.report.card import COMPRESSION, card, plain_card
    from avq.report.report import saved_report
    from avq.trained import model_folder

    require_released(out)
    cpu.keep_memory()
    tokenizer = load(run, step)
    folder, trained, picture = model_folder(run), tokenizer.trained, PICTURE if images else ""
    coder = codec_of(folder, tokenizer) if codec else _codec(folder, tokenizer)
    sections = (COMPRESSION,) if coder else ()
    bits = tokenizer.bits_per_pixel
    text = plain_card(str(run), trained.config, trained.step, bits, picture, sections)
    figures, found = "without", folder / "eval.json"
    if eval_file or found.is_file():
        try:
            text = card(saved_report(run, trained, eval_file or found), picture, sections)
            figures = "with"
        except InputError as error:
            if eval_file:
                raise
            print(f"no figures in the model card: {error}", file=sys.stderr)
    shown = shown_pairs(tokenizer, itertools.islice(Pictures(images), SHOWN)) if images else None
    write_folder(trained, out, text, shown, coder)
    about = f"step {trained.step:,}, card {figures} figures, {'with' if coder else 'without'} codec"
    print(f"{out}: model {tokenizer.digest} of {about}")


def _codec(folder: Path, tokenizer: "Tokenizer") -> "Codec | None":
    """The codec in a model's folder, if it has one of this checkpoint."""
    from avq.apply.codec.stored import read_codec

    try:
        return read_codec(folder, tokenizer)
    except InputError as error:
        print(f"no codec in the folder: {error}", file=sys.stderr)
        return None
