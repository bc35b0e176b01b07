"""Where images come from: a path, or a config's `data`, to sources of images."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avq.data.images import SUFFIXES
from avq.data.sources.base import EncodedImages, Source, Subset
from avq.data.sources.files import Folder, Zip, is_image, walk
from avq.data.sources.photographs import Photographs
from avq.data.sources.shards import ArrayRecords, Parquet
from avq.errors import InputError

DATASET, UNFINISHED = "dataset.json", "unfinished"
_ADVICE = "Give a folder or .zip of images, or use :tiny, which needs none."
HELD_OUT = ("test", "val", "valid", "validation")  # the first that there is


def open_source(path: str) -> EncodedImages:
    """All images of a folder of images, a `.zip`, ArrayRecord or Parquet files, or of what
    `avq prepare` has made. The kind is seen from what lies there.

    Raises:
        InputError: when there is no such path, it is none of these, or it holds no images.
    """
    if not os.path.exists(path):
        raise InputError(f"no such file or folder: {path!r}. {_ADVICE}")
    source = _open_folder(path) if os.path.isdir(path) else _open_file(path)
    if not len(source):
        raise InputError(
            f"no images under {path!r} (looked for {' '.join(SUFFIXES)} "
            f".array_record .parquet). {_ADVICE}"
        )
    return source


def open_splits(data: Any) -> dict[str, Source]:
    """The sources 'train' and 'test' of a config's `data`: those that the images come with, else
    a random split of the sorted images.
    """
    if data.path == "photographs":
        return {split: Photographs(split, data.image_size) for split in ("train", "test")}
    if not data.path:
        raise InputError(
            "data.path is not set: this config trains on your own images. Give "
            "--config.data.path=PATH (README, 'Training on CelebA-HQ'), or add :tiny to the "
            "config, which trains on embedded photographs."
        )
    try:
        source = open_source(data.path)
    except InputError as error:
        raise InputError(f"data.path: {error}") from error
    rows = split_rows(source, data.split, data.split_seed)
    return {split: Subset(source, found) for split, found in rows.items()}


def split_rows(source: EncodedImages, share: float, seed: int) -> dict[str, np.ndarray]:
    """Rows of 'train' and 'test', ascending.

    Args:
        source: whose own groups are taken where 'train' is one of them and 'test' (or 'val',
            'valid', 'validation') another.
        share: of the training images in a random split.
        seed: of its permutation.
    """
    groups = source.groups()
    held_out = next((name for name in HELD_OUT if name in groups), None)
    if "train" in groups and held_out:
        return {"train": groups["train"], "test": groups[held_out]}
    order = np.random.default_rng(seed).permutation(len(source))
    cut = round(len(order) * share)
    return {"train": np.sort(order[:cut]), "test": np.sort(order[cut:])}


def prepared(path: str) -> Mapping[str, Any] | None:
    """What `avq prepare` wrote about a folder that it has filled; None for any other path.

    Raises:
        InputError: for a folder that it has not finished.
    """
    folder = Path(path)
    if (folder / UNFINISHED).exists():
        raise InputError(f"{path!r} is not finished. Run the same avq prepare again; it goes on.")
    try:
        about = json.loads((folder / DATASET).read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and "shards" in about else None


def _open_folder(path: str) -> EncodedImages:
    if about := prepared(path):
        return _open_prepared(path, about)
    files = sorted(walk(path))
    images = [name for name in files if is_image(name)]
    records, parquet = (
        [f for f in files if f.endswith(end)] for end in (".array_record", ".parquet")
    )
    if images or not (records or parquet):
        return Folder(path, images)
    return ArrayRecords(path, records) if records else Parquet(path, parquet)


def _open_file(path: str) -> EncodedImages:
    folder, name = os.path.split(path)
    if name.endswith(".array_record"):
        return ArrayRecords(folder, [name])
    if name.endswith(".parquet"):
        return Parquet(folder, [name])
    return Zip(path)


def _open_prepared(path: str, about: Mapping[str, Any]) -> EncodedImages:
    try:
        counts = {str(shard["file"]): int(shard["images"]) for shard in about["shards"]}
        outside = [file for file in counts if os.path.basename(file) != file]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path!r}: {DATASET} is damaged ({error!r}).") from error
    if outside:
        raise InputError(f"{path!r}: {DATASET} names a file elsewhere, {outside[0]!r}.")
    return ArrayRecords(path, list(counts), counts)
