"""Folders that `avq prepare` has filled: ArrayRecord shards and `dataset.json`."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avq.data.channels import MODES
from avq.data.names import from_text
from avq.data.settings import Data
from avq.data.sources.shards import ArrayRecords, count_records
from avq.errors import InputError
from avq.storage import cache
from avq.storage.objects import AnyPath, RemotePath, at, is_remote

log = logging.getLogger("avq")

DESCRIPTION, UNFINISHED = "dataset.json", "unfinished"
SETTINGS = "settings.json"  # in `UNFINISHED`
SPLITS = ("train", "test")
LOOKED_AT = 256  # evenly spaced shards, when a folder is opened
ASKED_FOR = 16  # the same on object storage, where each look is a request
AGAIN = "Put back a copy, or run avq prepare again, into another folder."


def prepared(path: str) -> Mapping[str, Any] | None:
    """Reads the description of a prepared folder; None for any other path.

    Raises:
        InputError: for a folder that is not finished, or of shards beside a damaged description.
    """
    folder = at(path)
    if isinstance(folder, Path) and not os.path.isdir(path):
        return None
    if is_unfinished(folder):
        raise InputError(
            f"{path!r} is not finished. Run the same command again; it resumes. After workers, run "
            "it with --finish."
        )
    if not (folder / DESCRIPTION).is_file():
        if isinstance(folder, Path):
            return None
        raise InputError(
            f"{path!r}: there is no set that avq prepare has filled, and avq reads no others on "
            f"object storage. Run avq prepare IMAGES {path}, or give a folder."
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        description = None
    if isinstance(description, dict) and "shards" in description:
        return description
    if isinstance(folder, RemotePath) or any(folder.glob("*.array_record")):
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged (names no shards). {AGAIN}")
    return None


def is_unfinished(folder: AnyPath) -> bool:
    """Whether a folder of shards is still to be filled."""
    notes = folder / UNFINISHED
    # On object storage, a worker that was late may have left a note.
    return notes.exists() if isinstance(notes, Path) else (notes / SETTINGS).is_file()


def mode_of(description: Mapping[str, Any]) -> str:
    """Pillow's name for the channels of the images that a description is of."""
    return str(description.get("mode", MODES[3]))


class ShardFiles(Sequence[str]):
    """Names of the shards of all splits, made when they are asked for.

    Args:
        totals: number of shards by split.
    """

    def __init__(self, totals: Mapping[str, int]) -> None:
        self._totals = dict(totals)

    def __len__(self) -> int:
        return sum(self._totals.values())

    def __getitem__(self, index: Any) -> Any:
        number = index
        for split, total in self._totals.items():
            if 0 <= number < total:
                return shard_file(split, number, total)
            number -= total
        raise IndexError(index)


def shard_file(split: str, number: int, total: int) -> str:
    """Name of a shard of a split."""
    return f"{split}-{number:05d}-of-{total:05d}.array_record"


class Prepared(ArrayRecords):
    """Images of a prepared folder, known by the names of those they were made of.

    Attributes:
        own_split: rows of its training and test images.

    Raises:
        InputError: for a folder whose description is damaged or does not fit its shards, of which
            up to `LOOKED_AT` are looked at (on object storage `ASKED_FOR`, whether they are there),
            or whose images have lost channels that are asked for.
    """

    def __init__(self, path: str, description: Mapping[str, Any], channels: int = 3) -> None:
        by_split = _counts(path, description)
        if len(mode := mode_of(description)) < channels:  # a letter is a channel
            raise InputError(
                f"{path!r} holds {mode} images, and data.channels={channels} asks for "
                f"{MODES[channels]}. Run avq prepare --channels {channels} into another folder."
            )
        files = ShardFiles({split: len(counts) for split, counts in by_split.items()})
        counts = [count for of_split in by_split.values() for count in of_split]
        super().__init__(path, files, counts, channels=channels)
        trained = sum(by_split["train"])
        self.own_split = {"train": range(trained), "test": range(trained, len(self))}
        looks = min(len(files), ASKED_FOR if is_remote(path) else LOOKED_AT)
        for shard in np.linspace(0, len(files) - 1, looks).astype(int):
            self._look_at(int(shard))
        if hashes := description.get("name_hashes"):
            self.hashes = np.concatenate([from_text(hashes[split]) for split in SPLITS])
        if is_remote(path):
            self._warn_of_small_cache(len(self) * description["size"] ** 2 * len(mode))

    def _warn_of_small_cache(self, size: int) -> None:
        if size > (most := cache.limit()):
            log.warning(
                "%s: its %.1f GiB are more than the %.1f GiB of the cache, so that shards are "
                "fetched again and again when images are read at random. Raise %s.",
                *(self.path, size / 2**30, most / 2**30, cache.LIMIT),
            )

    def _look_at(self, shard: int) -> None:
        """Refuses a shard that is missing, damaged, or has not as many images as it should."""
        file = self.files[shard]
        path = at(self.path) / file
        if not path.is_file():
            raise InputError(f"{self.path!r}: {file} is missing. {AGAIN}")
        if isinstance(path, RemotePath):  # looked at when it is fetched
            return
        if (count := count_records(Path(self.path, file))) != self.counts[shard]:
            raise InputError(
                f"{self.path!r}: {file} has {count} images, and {DESCRIPTION} says "
                f"{self.counts[shard]}. {AGAIN}"
            )


def open_prepared(data: Data) -> Prepared | None:
    """Opens a prepared folder.

    Raises:
        InputError: for a folder that is not finished, damaged, or of fewer channels.
    """
    description = prepared(data.path)
    return None if description is None else Prepared(data.path, description, data.channels)


def _counts(path: str, description: Mapping[str, Any]) -> dict[str, list[int]]:
    """Number of images of each shard, by split.

    Raises:
        InputError: for a description of other types, or whose numbers contradict each other.
    """
    try:
        shards = description["shards"]
        if isinstance(shards, list):  # as avq wrote them until there could be a million of them
            shards = {
                split: [each["images"] for each in shards if each["file"].startswith(f"{split}-")]
                for split in SPLITS
            }
        totals = {split: sum(shards[split]) for split in SPLITS}
        hashes = {s: len(from_text(text)) for s, text in description.get("name_hashes", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged ({error!r}). {AGAIN}") from error
    numbers = [*(count for split in SPLITS for count in shards[split]), description.get("size")]
    if mode_of(description) not in MODES.values():
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged (mode). {AGAIN}")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged (numbers of other types). {AGAIN}")
    if description.get("counts") != totals or (hashes and hashes != totals):
        raise InputError(
            f"{path!r}: {DESCRIPTION} is damaged (its shards hold {totals}, its counts are "
            f"{description.get('counts')}). {AGAIN}"
        )
    return {split: shards[split] for split in SPLITS}
