"""`avq data`: what a set of images holds."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.data.images import UnreadableImage, centre_square
from avq.data.sources import Source, open_splits

TILE, SHEET_COLUMNS, SHEET_ROWS = 96, 10, 6
AHEAD = 64  # images on their way through the threads


@dataclass
class Survey:
    """What reading every image once has shown.

    Attributes:
        counts: readable images by split.
        sides: shorter and longer side in pixels: 'least', 'median' and 'most' of each.
        rejected: name and reason of each unreadable file.
        pixel_mean, pixel_std, pixel_variance: of the training images' pixels in [-1, 1], each
            image cut to its centre square and resized.
        size: side of those squares.
        sheet: a picture of up to 60 images, evenly spaced.
    """

    counts: dict[str, int]
    sides: dict[str, dict[str, Any]]
    rejected: list[dict[str, str]]
    pixel_mean: float
    pixel_std: float
    pixel_variance: float
    size: int
    sheet: UInt8[np.ndarray, "H W 3"] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "sheet"}

    def as_text(self) -> str:
        """The same for a reader, rejected files one a line."""
        lines = [f"{count} {split} images" for split, count in self.counts.items()]
        lines += [
            f"{side} side: {of['least']} to {of['most']} pixels, median {of['median']:g}"
            for side, of in self.sides.items()
        ]
        lines.append(
            f"training pixels in [-1, 1], {self.size}x{self.size} squares: mean "
            f"{self.pixel_mean:.4f}, std {self.pixel_std:.4f}, variance {self.pixel_variance:.4f}"
        )
        lines.append(f"{len(self.rejected)} unreadable")
        lines += [f"  {entry['name']}: {entry['reason']}" for entry in self.rejected]
        return "\n".join(lines)


def survey(
    path: str,
    size: int,
    start: Callable[[int], object] = lambda total: None,
    each: Callable[[int], object] = lambda done: None,
) -> Survey:
    """Reads every image that a path holds.

    Args:
        path: as `data.path` takes it.
        size: side of the squares that the statistics are of.
        start: called with the number of images before the work begins.
        each: called with the number of images that are done since.

    Raises:
        InputError: for a path without images.
    """
    data = SimpleNamespace(path=path, image_size=size, split=0.8, split_seed=1967)
    splits = open_splits(data)
    start(sum(map(len, splits.values())))
    counts, sides, rejected, tiles = {}, [], [], []
    moments = np.zeros(2)
    shown = SHEET_COLUMNS * SHEET_ROWS // len(splits)
    for split, source in splits.items():
        kept = set(np.linspace(0, len(source) - 1, shown).round().astype(int).tolist())
        counts[split] = 0
        for row, found in _read_all(source, size):
            each(1)
            if isinstance(found, str):
                rejected.append({"name": source.name(row), "reason": found})
                continue
            square, shape = found
            counts[split] += 1
            sides.append(sorted(shape))
            if split == "train":
                pixels = square / 127.5 - 1
                moments += pixels.mean(), (pixels**2).mean()
            if row in kept:
                tiles.append(centre_square(square, TILE))
    mean, square_mean = moments / max(1, counts["train"])
    variance = float(square_mean - mean**2)
    return Survey(
        counts=counts,
        sides=_described(sides),
        rejected=rejected,
        pixel_mean=float(mean),
        pixel_std=variance**0.5,
        pixel_variance=variance,
        size=size,
        sheet=_sheet(tiles),
    )


def _read_all(source: Source, size: int) -> Iterator[tuple[int, Any]]:
    """Row, and its square and shape or the reason why there are none."""

    def read(row: int) -> Any:
        try:
            image = source[row]
        except UnreadableImage as error:
            return str(error)
        return centre_square(image, size), image.shape[:2]

    with ThreadPoolExecutor() as pool:
        for first in range(0, len(source), AHEAD):
            rows = range(first, min(first + AHEAD, len(source)))
            yield from zip(rows, pool.map(read, rows), strict=True)


def _described(sides: list[list[int]]) -> dict[str, dict[str, Any]]:
    if not sides:
        return {}
    values = np.array(sides)
    return {
        name: {
            "least": int(column.min()),
            "median": float(np.median(column)),
            "most": int(column.max()),
        }
        for name, column in zip(("shorter", "longer"), values.T, strict=True)
    }


def _sheet(tiles: list[np.ndarray]) -> UInt8[np.ndarray, "H W 3"]:
    rows = max(1, -(-len(tiles) // SHEET_COLUMNS))
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    tiles = tiles + [blank] * (rows * SHEET_COLUMNS - len(tiles))
    lines = [tiles[r * SHEET_COLUMNS : (r + 1) * SHEET_COLUMNS] for r in range(rows)]
    return np.concatenate([np.concatenate(line, axis=1) for line in lines])
