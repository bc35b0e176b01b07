"""`dataset.json` of a prepared set, gathered shard by shard."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from avq.data.dataset import MOST_NAMES
from avq.data.duplicates import near_duplicates
from avq.data.names import to_text
from avq.data.shard_folder import JSON, Shard, ShardFolder
from avq.data.sources import Source, Subset
from avq.data.sources.base import name_hashes
from avq.data.sources.prepared import SPLITS
from avq.errors import InputError

MAX_LISTED = 1000  # pairs of near-duplicates


class SetDescription:
    """What `dataset.json` says of the images of a prepared set.

    Perceptual hashes go to disk, and hashes of names are kept of up to `MOST_NAMES` images, so that
    memory grows with the shards and the unreadable images alone.

    Args:
        folder: of the shards.
        scratch: folder for intermediate files.
        source: of the images.
    """

    def __init__(self, folder: ShardFolder, scratch: Path, source: Source) -> None:
        self._folder, self._scratch, self._source = folder, scratch, source
        self._shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
        self._images: dict[str, list[int]] = {split: [] for split in SPLITS}
        self._name_hashes: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        self._rejected: list[JSON] = []
        self._total, self._sums = 0, np.zeros((), np.int64)
        for split in SPLITS:
            self._hashes(split).touch()

    def add(self, shard: Shard, note: JSON) -> None:
        """Counts a shard in, by its note."""
        self._shards[shard.split].append(shard)
        self._images[shard.split].append(note["images"])
        self._total += note["images"]
        self._rejected += note["rejected"]
        if shard.split == "train":
            self._sums = self._sums + np.array(note["sums"], np.int64)
        if self._total <= MOST_NAMES:
            hashes = _name_hashes(self._source, shard, note["names"])
            self._name_hashes[shard.split].append(hashes)
        else:
            self._name_hashes = {}
        with self._hashes(shard.split).open("ab") as file:
            np.array(note["hashes"], "<u8").tofile(file)

    def content(self, size: int) -> JSON:
        """Content of `dataset.json`, once all shards are counted in.

        Args:
            size: side of the squares, pixels.

        Raises:
            InputError: when there is no image to train on.
        """
        counts = {split: sum(images) for split, images in self._images.items()}
        hashes = self._name_hashes.items()
        return {
            "counts": counts,
            **_statistics(self._sums, size * size * counts["train"]),
            "shards": self._images,
            "name_hashes": {split: to_text(_whole(parts)) for split, parts in hashes},
            "rejected": self._rejected,
            "near_duplicates": self._near_duplicates(),
        }

    def _near_duplicates(self) -> JSON:
        train, test = (self._hashes(split) for split in SPLITS)
        similar = near_duplicates(train, test, self._scratch, most=MAX_LISTED)
        names = {
            split: self._names(split, (pair[side] for pair in similar.first))
            for side, split in enumerate(SPLITS)
        }
        first = [
            {split: names[split][row] for split, row in zip(SPLITS, pair, strict=True)}
            for pair in similar.first
        ]
        return {"pairs": similar.pairs, "first": first}

    def _hashes(self, split: str) -> Path:
        """File of the perceptual hashes of a split."""
        return self._scratch / f"{split}.hashes"

    def _names(self, split: str, rows: Iterable[int]) -> dict[int, str]:
        """Names of some images of a split by row; each shard's note is read once."""
        ends = np.cumsum(self._images[split])
        found: dict[int, str] = {}
        for shard, some in groupby(
            sorted(set(rows)), lambda row: int(np.searchsorted(ends, row, "right"))
        ):
            names = self._folder.read_note(self._shards[split][shard])["names"]
            found |= {row: names[row - int(ends[shard])] for row in some}
        return found


def _name_hashes(source: Source, shard: Shard, names: list[str]) -> UInt64[np.ndarray, "n"]:
    """Hashes of the names that the images of a shard are known by."""
    rows = {source.name(row): row for row in map(int, shard.rows)}
    return name_hashes(Subset(source, np.array([rows[name] for name in names], np.int64)))


def _whole(parts: list[np.ndarray]) -> UInt64[np.ndarray, "n"]:
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _statistics(sums: Int64[np.ndarray, "..."], pixels: int) -> JSON:
    """Mean, standard deviation and variance of the pixels in [-1, 1], over all channels and by
    channel; exact, since sums are of whole numbers.

    Args:
        sums: of the pixels and of their squares, by channel, in 0..255.
        pixels: of a channel.

    Raises:
        InputError: when there are none.
    """
    if not pixels:
        raise InputError("there is no readable image to train on.")
    mean, square = sums / pixels

    def described(mean: Any, square: Any) -> JSON:
        variance = np.asarray((square - mean**2) / 127.5**2)
        values = {"mean": mean / 127.5 - 1, "std": variance**0.5, "variance": variance}
        return {name: np.asarray(value).tolist() for name, value in values.items()}

    whole = described(mean.mean(), square.mean())
    return {f"pixel_{name}": value for name, value in whole.items()} | {
        "channels": described(mean, square)
    }
