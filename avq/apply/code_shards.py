"""Folders of codes: ArrayRecord shards and `codes.json`, as `avq tokenize` fills them.

A record is the length of the image's name in bytes, as four bytes; the name, UTF-8; then the grids,
finest level first and row by row, each code as the `types` of `codes.json` say. Numbers are
little-endian.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Integer

from avq.data.images import UnreadableImage
from avq.data.sources.prepared import SPLITS, is_unfinished
from avq.data.sources.shards import ArrayRecords
from avq.errors import InputError
from avq.json_files import read_json
from avq.storage.objects import AnyPath, at, missing

CODES = "codes.json"
FORMAT = 1  # of codes.json and of the records
LENGTH = 4  # bytes of the length of a name
AGAIN = "Put back a copy, or run avq tokenize again, into another folder."
Grids: TypeAlias = tuple[Integer[np.ndarray, "..."], ...]


@dataclass(frozen=True)
class Layout:
    """Layout of a record.

    Attributes:
        grids: height and width by level, finest first.
        codebook_sizes: number of codes by level.
    """

    grids: tuple[tuple[int, int], ...]
    codebook_sizes: tuple[int, ...]

    @property
    def types(self) -> list[np.dtype[Any]]:
        """Smallest unsigned integers that hold the codes of each level, little-endian."""
        return [np.min_scalar_type(size - 1).newbyteorder("<") for size in self.codebook_sizes]

    def record(self, name: str, codes: Grids) -> bytes:
        """The record of an image."""
        text = name.encode("utf-8", "surrogateescape")
        parts = (grid.astype(t).tobytes() for grid, t in zip(codes, self.types, strict=True))
        return b"".join((len(text).to_bytes(LENGTH, "little"), text, *parts))

    def parsed(self, record: bytes) -> tuple[str, Grids]:
        """Name and codes of a record.

        Raises:
            ValueError: for a record of another layout, or with codes that the model does not have.
        """
        start = LENGTH + int.from_bytes(record[:LENGTH], "little")
        name, codes = record[LENGTH:start].decode("utf-8", "surrogateescape"), []
        for (height, width), size, kind in zip(
            self.grids, self.codebook_sizes, self.types, strict=True
        ):
            grid = np.frombuffer(record, kind, height * width, start).reshape(height, width)
            if grid.size and grid.max() >= size:
                raise ValueError(f"codes are not all in 0..{size - 1}")
            codes.append(grid.astype(kind.newbyteorder("=")))
            start += grid.nbytes
        if start != len(record):
            raise ValueError(f"{len(record)} bytes, not {start}")
        return name, tuple(codes)


class CodeSet:
    """Names and codes of the images of a split, by index; read as they are asked for.

    Attributes:
        about: content of the folder's `codes.json`.
    """

    def __init__(self, about: Mapping[str, Any], layout: Layout, records: ArrayRecords) -> None:
        self.about = about
        self._layout, self._records = layout, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[str, Grids]:
        """Name and grids `[h, w]` of an image, finest level first.

        Raises:
            InputError: for a damaged record.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return self._layout.parsed(self._records.content(index))
        except (UnreadableImage, ValueError) as error:
            place = self._records.name(index)
            raise InputError(f"{place} in {self._records.path!r} is damaged ({error}).") from error

    def __iter__(self) -> Iterator[tuple[str, Grids]]:
        return (self[index] for index in range(len(self)))

    def arrays(self) -> tuple[list[str], Grids]:
        """All names, and all codes in memory: an array `[n, h, w]` a level, finest first."""
        layout, names = self._layout, []
        whole = tuple(
            np.empty((len(self), *grid), kind.newbyteorder("="))
            for grid, kind in zip(layout.grids, layout.types, strict=True)
        )
        for index, (name, codes) in enumerate(self):
            names.append(name)
            for level, grid in zip(whole, codes, strict=True):
                level[index] = grid
        return names, whole


def read(folder: str | AnyPath, split: str) -> CodeSet:
    """Opens the codes of a split that `avq tokenize` has written.

    Args:
        folder: filled by `avq tokenize`.
        split: 'train' or 'test'.

    Raises:
        InputError: for a folder that holds no codes, is not finished, damaged, or of a newer avq.

    Example:
        for name, codes in read("codes", "train"):
            images = model.decode([grid[None] for grid in codes])
        names, (fine, coarse) = read("codes", "train").arrays()
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not one of {', '.join(SPLITS)}.")
    folder = at(folder)
    if is_unfinished(folder):
        raise InputError(
            f"{str(folder)!r} is not finished. Run the same avq tokenize again; it resumes. After "
            "workers, run it with --finish."
        )
    about = read_json(folder / CODES)
    if about is None:
        raise InputError(f"{str(folder)!r} holds no codes: no {CODES} in it.")
    try:
        layout, counts = _described(about, split)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{str(folder)!r}: {CODES} is damaged ({error!r}). {AGAIN}") from error
    if lacking := missing(folder, counts):
        raise InputError(f"{str(folder)!r}: {lacking[0]} is missing. {AGAIN}")
    listed = None if isinstance(folder, Path) else list(counts.values())  # not fetched for it
    records = ArrayRecords(str(folder), list(counts), listed)
    for file, count in zip(records.files, records.counts.tolist(), strict=True):
        if count != counts[file]:
            raise InputError(
                f"{str(folder)!r}: {file} has {count} images, and {CODES} says {counts[file]}. "
                f"{AGAIN}"
            )
    return CodeSet(about, layout, records)


def _described(about: Mapping[str, Any], split: str) -> tuple[Layout, dict[str, int]]:
    """Layout of the records, and number of records by file of a split.

    Raises:
        InputError: for another format.
        ValueError, KeyError, TypeError, AttributeError: for a damaged description.
    """
    if (number := about.get("format")) != FORMAT:
        raise InputError(f"{CODES} has format {number!r}, which this avq does not know. Update it.")
    grids = tuple((int(height), int(width)) for height, width in about["grids"])
    layout = Layout(grids, tuple(int(size) for size in about["codebook_sizes"]))
    if min(layout.codebook_sizes) < 1 or min(map(min, grids)) < 1 or len(grids) > 64:
        raise ValueError("grids or codebook sizes out of range")
    shards = [entry for entry in about["shards"] if entry["split"] == split]
    counts = {str(shard["file"]): int(shard["images"]) for shard in shards}
    if outside := [file for file in counts if os.path.basename(file) != file]:
        raise ValueError(f"it names a file elsewhere, {outside[0]!r}")
    if sum(counts.values()) != about["counts"][split]:
        raise ValueError("its shards hold another number of images than its counts")
    return layout, counts
