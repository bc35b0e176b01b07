"""Sources of images, chosen by the path of a config's `data`.

To add one, write in a file of its own a class with the four members of `Source` and a function that
opens it, an `Opener`, and add one line to `SOURCES`. Everything that takes a path then takes it:
training, `avq eval`, `avq data` and `avq prepare`. The same holds for an opener that other code
adds to `SOURCES`.
"""

import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from avq.data.images import SUFFIXES
from avq.data.settings import Data
from avq.data.sources.base import EncodedImages, Grouped, Opened, Opener, Source, Subset
from avq.data.sources.files import open_folder, open_zip
from avq.data.sources.photographs import Photographs, open_photographs
from avq.data.sources.prepared import open_prepared
from avq.data.sources.shards import open_array_records, open_parquet
from avq.errors import InputError

__all__ = [
    "SOURCES",
    "EncodedImages",
    "Photographs",
    "Source",
    "Subset",
    "open_source",
    "open_splits",
    "split_rows",
]

# Tried in this order: the first one that knows a path opens it.
SOURCES: dict[str, Opener] = {
    "photographs": open_photographs,
    "prepared": open_prepared,
    "folder": open_folder,
    "zip": open_zip,
    "array_record": open_array_records,
    "parquet": open_parquet,
}
HELD_OUT = ("test", "val", "valid", "validation")  # the first that there is
_ADVICE = "Give a folder or .zip of images, or use :tiny, which needs none."


def open_source(path: str) -> Source:
    """Opens all images of a path.

    Raises:
        InputError: when there is no such path, no source knows it, it holds no images, or its
            training and test images can only be opened apart.
    """
    opened = _open(Data(path=path))
    if isinstance(opened, Mapping):
        parts = " and ".join(opened)
        raise InputError(
            f"{path!r} comes as {parts} images, not as one set. Give a folder or file of images."
        )
    return opened


def open_splits(data: Data) -> dict[str, Source]:
    """Opens the sources 'train' and 'test': those that the images come with, else a random split.

    Raises:
        InputError: for a `data.path` that is not set or cannot be opened.
    """
    if not data.path:
        raise InputError(
            "data.path is not set: this config trains on your own images. Give "
            "--config.data.path=PATH (README, 'Training on CelebA-HQ'), or add :tiny to the "
            "config, which trains on embedded photographs."
        )
    try:
        opened = _open(data)
    except InputError as error:
        raise InputError(f"data.path: {error}") from error
    if isinstance(opened, Mapping):
        return dict(opened)
    by_split = split_rows(opened, data.split, data.split_seed)
    return {split: Subset(opened, rows) for split, rows in by_split.items()}


def split_rows(source: Source, share: float, seed: int) -> dict[str, Int[np.ndarray, "_"]]:
    """Rows of 'train' and 'test', ascending.

    Args:
        source: its groups are the split where one is 'train' and another 'test' (or 'val', 'valid',
            'validation').
        share: of the training images in a random split.
        seed: of the permutation that the random split cuts.
    """
    groups = source.groups() if isinstance(source, Grouped) else {}
    held_out = next((name for name in HELD_OUT if name in groups), None)
    if "train" in groups and held_out:
        return {"train": groups["train"], "test": groups[held_out]}
    order = np.random.default_rng(seed).permutation(len(source))
    cut = round(len(order) * share)
    return {"train": np.sort(order[:cut]), "test": np.sort(order[cut:])}


def _open(data: Data) -> Opened:
    opened = next((o for opener in SOURCES.values() if (o := opener(data)) is not None), None)
    if opened is None and not os.path.exists(data.path):
        raise InputError(f"no such file or folder: {data.path!r}. {_ADVICE}")
    if not opened:
        raise InputError(
            f"no images under {data.path!r} (looked for {' '.join(SUFFIXES)} "
            f".array_record .parquet). {_ADVICE}"
        )
    return opened
