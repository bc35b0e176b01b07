"""Images that verbs take, and pictures that they write."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avq.cli.app import progress

if TYPE_CHECKING:
    from avq.apply.pictures import Pictures
    from avq.apply.tokenizer import Tokenizer

ImagesArgument = Annotated[
    list[str],
    typer.Argument(metavar="IMAGES...", help="Image files, patterns, folders, .zip files."),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Squares at a time.")]
FolderOption = Annotated[Path, typer.Option("-o", "--out", help="Folder for .png files.")]


def opened(
    run: Path, images: list[str], step: int | None, batch_size: int
) -> tuple["Tokenizer", "Pictures"]:
    """A model, and images for it."""
    from avq import cpu
    from avq.apply.pictures import Pictures
    from avq.apply.tokenizer import load

    cpu.keep_memory()
    tokenizer = load(run, step, batch_size=batch_size)
    return tokenizer, Pictures(images, tokenizer.trained.data)


def write_each(out: Path, names: Sequence[str], pictures: Iterable[Any]) -> None:
    """Writes pictures, uint8 `[h, w, c]`, as they are made, and says how many."""
    from avq.apply.pictures import require_folder, write_png

    require_folder(out)
    with progress() as (on_total, on_images):
        on_total(len(names))
        for name, pixels in zip(names, pictures, strict=True):
            write_png(out, name, pixels)
            on_images(1)
    print(f"{out}: {len(names):,} images")
