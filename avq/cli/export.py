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
    from avq.apply.export import Pair
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
    stablehlo: Annotated[
        bool,
        typer.Option(
            "--stablehlo", help="Add encoder and decoder as programs that need JAX alone."
        ),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of their images, pixels. Default: that of training."),
    ] = None,
) -> None:
    """Writes a model for others to load: weights, config, model card and the codec if there is one,
    without training state.
    """
    from avq import cpu
    from avq.apply.export import PICTURE, require_released
    from avq.apply.export import export as write_folder
    from avq.apply.stablehlo import require_flatbuffers
    from avq.apply.tokenizer import load
    from avq.trained import model_folder

    require_released(out)
    if stablehlo:
        require_flatbuffers()
    elif size:
        raise InputError("--size is the side of the images of --stablehlo. Give that, too.")
    cpu.keep_memory()
    tokenizer, folder = load(run, step), model_folder(run)
    coder = codec_of(folder, tokenizer) if codec else _codec(folder, tokenizer)
    others, sections = _others(tokenizer, coder, (size or tokenizer.image_size) if stablehlo else 0)
    text, figures = _card(run, tokenizer, eval_file, PICTURE if images else "", sections)
    shown = _pairs(images, tokenizer) if images else None
    write_folder(tokenizer.trained, out, text, shown, others)
    about = f"card {figures} figures, {'with' if coder else 'without'} codec"
    print(f"{out}: model {tokenizer.digest} of step {tokenizer.trained.step:,}, {about}")


def _codec(folder: Path, tokenizer: "Tokenizer") -> "Codec | None":
    """The codec in a model's folder, if it has one of this checkpoint."""
    from avq.apply.codec.stored import read_codec

    try:
        return read_codec(folder, tokenizer)
    except InputError as error:
        print(f"no codec in the folder: {error}", file=sys.stderr)
        return None


def _others(
    tokenizer: "Tokenizer", codec: "Codec | None", size: int
) -> tuple[dict[str, bytes], list[str]]:
    """Files beside the weights, and what the card says of them.

    Args:
        tokenizer: the model.
        codec: of it.
        size: side of the images of StableHLO programs, pixels; 0 for no programs.
    """
    from avq.apply.codec.stored import FILE, codec_bytes
    from avq.apply.stablehlo import differences, programs, section
    from avq.report.card import COMPRESSION

    others, sections = {}, []
    if codec:
        others[FILE] = codec_bytes(codec)
        sections.append(COMPRESSION)
    if size:
        files = programs(tokenizer.trained, size)
        wrong, largest = differences(files, tokenizer.trained, size)
        print(f"programs: {wrong} codes, and {largest} of 255 at most in a pixel, off the model's")
        others |= files
        sections.append(section(size, tokenizer.channels))
    return others, sections


def _pairs(images: list[str], tokenizer: "Tokenizer") -> "list[Pair]":
    """Squares of the first of some images, and their reconstructions."""
    from avq.apply.export import SHOWN, shown_pairs
    from avq.apply.pictures import Pictures

    pictures = Pictures(images, tokenizer.trained.data)
    return shown_pairs(tokenizer, itertools.islice(pictures, SHOWN))


def _card(
    run: Path, tokenizer: "Tokenizer", eval_file: Path | None, picture: str, sections: list[str]
) -> tuple[str, str]:
    """The model card, and whether it is one 'with' or 'without' figures."""
    from avq.report.card import card, plain_card
    from avq.report.report import saved_report
    from avq.trained import model_folder

    trained, found = tokenizer.trained, model_folder(run) / "eval.json"
    if eval_file or found.is_file():
        try:
            report = saved_report(run, trained, eval_file or found)
            return card(report, picture, sections), "with"
        except InputError as error:
            if eval_file:
                raise
            print(f"no figures in the model card: {error}", file=sys.stderr)
    bits = tokenizer.bits_per_pixel
    return plain_card(str(run), trained.config, trained.step, bits, picture, sections), "without"
