"""Released folders: a model without what only training needs, see `avq.trained`."""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.apply.codec.stored import FILE as CODEC
from avq.apply.pictures import contact_sheet, require_folder
from avq.apply.stablehlo import PROGRAMS
from avq.apply.tokenizer import Tokenizer
from avq.config import CONFIG
from avq.errors import InputError
from avq.json_files import read_json, replaced
from avq.tensor_file import write_tensors
from avq.trained import KIND, TENSORS, TrainedModel, released_parts

README, PICTURE = "README.md", "samples.png"
OTHERS = (CODEC, *PROGRAMS)  # files that a folder may have
FILES = {CONFIG, TENSORS, README, PICTURE, *OTHERS}
SHOWN = 8  # images of a picture
Pair = tuple[UInt8[np.ndarray, "_h _w c"], UInt8[np.ndarray, "_h _w c"]]


def require_released(folder: Path) -> None:
    """Refuses a folder that holds anything but a released model, or hidden files such as `.git`.

    Raises:
        InputError: naming it.
    """
    if not folder.exists():
        return
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    about = read_json(folder / CONFIG)
    if isinstance(about, dict) and about.get("kind") == KIND:
        return
    visible = {name for name in there if not name.startswith(".")}
    ours = FILES | {f"{name}.new" for name in FILES}
    begun = f"{CONFIG}.new" in visible and visible <= ours  # by a call that was killed
    if visible and not begun:
        raise InputError(
            f"{str(folder)!r} is neither an empty folder nor one that avq export wrote. Give "
            "another."
        )


def export(
    trained: TrainedModel,
    folder: Path,
    readme: str,
    shown: Iterable[Pair] | None = None,
    others: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Writes a released folder, or replaces the files of one. All are complete before the first
    gets its name, and `config.json` gets it last.

    Args:
        trained: the model.
        folder: to fill, created if missing.
        readme: text of its README.md, such as `avq.report.card.card`.
        shown: images and their reconstructions for `samples.png`; None for no picture.
        others: contents of those of the files `OTHERS` that the folder is to have.

    Raises:
        InputError: for a folder that holds something else, or cannot be written.
    """
    require_released(folder)
    about, tensors = released_parts(trained)
    require_folder(folder)
    try:
        with ExitStack() as stack:  # which closes the last first
            names = (CONFIG, *others, README, TENSORS)
            new = {name: stack.enter_context(replaced(folder / name)) for name in names}
            new[CONFIG].write_text(json.dumps(about, indent=2) + "\n")
            new[README].write_text(readme, encoding="utf-8")
            write_tensors(new[TENSORS], tensors)
            for name, content in others.items():
                new[name].write_bytes(content)
            for name in set(OTHERS) - set(others):
                (folder / name).unlink(missing_ok=True)
            if shown is not None:
                contact_sheet(folder / PICTURE, list(shown))
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written ({error.strerror}).") from error
    if shown is None:
        (folder / PICTURE).unlink(missing_ok=True)


def shown_pairs(tokenizer: Tokenizer, images: Iterable[Any]) -> list[Pair]:
    """Squares of images, as evaluation sees them, and their reconstructions."""
    squares = [tokenizer.transform(image) for image in images]
    return list(zip(squares, tokenizer.reconstruct_each(squares), strict=True))
