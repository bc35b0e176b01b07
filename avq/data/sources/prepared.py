"""Folders that `avq prepare` has filled: ArrayRecord shards and `dataset.json`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avq.data.channels import MODES
from avq.data.names import from_text
from avq.data.settings import Data
from avq.data.sources.shards import ArrayRecords
from avq.errors import InputError

DESCRIPTION, UNFINISHED = "dataset.json", "unfinished"
AGAIN = "Put back a copy, or run avq prepare again, into another folder."


def prepared(path: str) -> Mapping[str, Any] | None:
    """Reads the description of a prepared folder; None for any other path.

    Raises:
        InputError: for a folder that is not finished, or of shards beside a damaged description.
    """
    if not os.path.isdir(path):
        return None
    folder = Path(path)
    if (folder / UNFINISHED).exists():
        raise InputError(
            f"{path!r} is not finished. Run the same command again; it resumes. After workers, run "
            "it with --finish."
        )
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        description = None
    if isinstance(description, dict) and "shards" in description:
        return description
    if any(folder.glob("*.array_record")):
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged (names no shards). {AGAIN}")
    return None


def mode_of(description: Mapping[str, Any]) -> str:
    """Pillow's name for the channels of the images that a description is of."""
    return str(description.get("mode", MODES[3]))


class Prepared(ArrayRecords):
    """Images of a prepared folder, known by the names of those they were made of.

    Raises:
        InputError: for a folder whose description is damaged or does not fit its shards, or whose
            images have lost channels that are asked for.
    """

    def __init__(self, path: str, description: Mapping[str, Any], channels: int = 3) -> None:
        counts = _counts(path, description)
        if len(mode := mode_of(description)) < channels:  # a letter is a channel
            raise InputError(
                f"{path!r} holds {mode} images, and data.channels={channels} asks for "
                f"{MODES[channels]}. Run avq prepare --channels {channels} into another folder."
            )
        for file in counts:
            if not os.path.isfile(os.path.join(path, file)):
                raise InputError(f"{path!r}: {file} is missing. {AGAIN}")
        super().__init__(path, list(counts), channels=channels)
        for file, count in self.files:
            if count != counts[file]:
                raise InputError(
                    f"{path!r}: {file} has {count} images, and {DESCRIPTION} says {counts[file]}. "
                    f"{AGAIN}"
                )
        if hashes := description.get("name_hashes"):
            self.hashes = np.concatenate([from_text(hashes[split]) for split in ("train", "test")])


def open_prepared(data: Data) -> Prepared | None:
    """Opens a prepared folder.

    Raises:
        InputError: for a folder that is not finished, damaged, or of fewer channels.
    """
    description = prepared(data.path)
    return None if description is None else Prepared(data.path, description, data.channels)


def _counts(path: str, description: Mapping[str, Any]) -> dict[str, int]:
    """Number of images by shard.

    Raises:
        InputError: for a description of other types, or whose numbers contradict each other.
    """
    try:
        shards = {shard["file"]: shard["images"] for shard in description["shards"]}
        outside = [file for file in shards if os.path.basename(file) != file]
        of_split = {
            split: sum(count for file, count in shards.items() if file.startswith(split))
            for split in ("train", "test")
        }
        hashes = {s: len(from_text(text)) for s, text in description.get("name_hashes", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged ({error!r}). {AGAIN}") from error
    if outside:
        raise InputError(f"{path!r}: {DESCRIPTION} names a file elsewhere, {outside[0]!r}.")
    numbers = [*shards.values(), description.get("size")]
    if mode_of(description) not in MODES.values():
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged (mode). {AGAIN}")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged (numbers of other types). {AGAIN}")
    if description.get("counts") != of_split or (hashes and hashes != of_split):
        raise InputError(
            f"{path!r}: {DESCRIPTION} is damaged (its shards hold {of_split}, its counts are "
            f"{description.get('counts')}). {AGAIN}"
        )
    return shards
