"""`avq data`: counts, sizes and pixel statistics of a set of images."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.data.images import UnreadableImage
from avq.data.settings import Data
from avq.data.sources import Source, open_splits
from avq.data.views import centre_square

TILE, SHEET_COLUMNS, SHEET_ROWS = 96, 10, 6
AHEAD = 64  # images that the threads read at a time
Sides = dict[str, dict[str, int | float]]
Square = UInt8[np.ndarray, "s s 3"]


@dataclass
class Survey:
    """Results of reading every image once.

    Attributes:
        counts: readable images by split.
        sides: shorter and longer side in pixels: 'least', 'median' and 'most' of each.
        rejected: name and reason of each unreadable file.
        pixel_mean, pixel_std, pixel_variance: of the pixels in [-1, 1] of the training images'
            centre squares.
        size: side of those squares, pixels.
        sheet: contact sheet of up to 60 images, evenly spaced.
    """

    counts: dict[str, int]
    sides: Sides
    rejected: list[dict[str, str]]
    pixel_mean: float
    pixel_std: float
    pixel_variance: float
    size: int
    sheet: UInt8[np.ndarray, "H W 3"] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """All but the sheet."""
        return {name: value for name, value in vars(self).items() if name != "sheet"}

    def as_text(self) -> str:
        """Table for a terminal, one unreadable file a line."""
        lines = [f"{count} {split} images" for split, count in self.counts.items()]
        lines += [
            f"{side} side: {sizes['least']} to {sizes['most']} pixels, median {sizes['median']:g}"
            for side, sizes in self.sides.items()
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
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda done: None,
) -> Survey:
    """Reads every image of a path.

    Args:
        path: as `data.path` takes it.
        size: side of the squares that statistics are measured on, pixels.
        on_total: called with the number of images before the first is read.
        on_images: called with the number of images read since the call before.

    Raises:
        InputError: for a path without images.
    """
    splits = open_splits(Data(path=path, image_size=size))
    on_total(sum(map(len, splits.values())))
    counts = dict.fromkeys(splits, 0)
    sides: list[list[int]] = []
    rejected: list[dict[str, str]] = []
    tiles: list[Square] = []
    moments = np.zeros(2)
    shown = SHEET_COLUMNS * SHEET_ROWS // len(splits)
    for split, source in splits.items():
        kept = set(np.linspace(0, len(source) - 1, shown).round().astype(int).tolist())
        for row, image in _read_all(source, size):
            on_images(1)
            if isinstance(image, UnreadableImage):
                rejected.append({"name": source.name(row), "reason": str(image)})
                continue
            counts[split] += 1
            sides.append(sorted(image.shape))
            if split == "train":
                pixels = image.square / 127.5 - 1
                moments += pixels.mean(), (pixels**2).mean()
            if row in kept:
                tiles.append(centre_square(image.square, TILE))
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


@dataclass
class _Image:
    square: Square
    shape: tuple[int, int]


def _read_all(source: Source, size: int) -> Iterator[tuple[int, _Image | UnreadableImage]]:
    """Yields every row with its image, or with the exception that reading it raised."""

    def read(row: int) -> _Image | UnreadableImage:
        try:
            image = source[row]
        except UnreadableImage as error:
            return error
        return _Image(centre_square(image, size), image.shape[:2])

    with ThreadPoolExecutor() as pool:
        for first in range(0, len(source), AHEAD):
            rows = range(first, min(first + AHEAD, len(source)))
            yield from zip(rows, pool.map(read, rows), strict=True)


def _described(sides: list[list[int]]) -> Sides:
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


def _sheet(tiles: list[Square]) -> UInt8[np.ndarray, "H W 3"]:
    rows = max(1, -(-len(tiles) // SHEET_COLUMNS))
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    tiles = tiles + [blank] * (rows * SHEET_COLUMNS - len(tiles))
    lines = [tiles[r * SHEET_COLUMNS : (r + 1) * SHEET_COLUMNS] for r in range(rows)]
    return np.concatenate([np.concatenate(line, axis=1) for line in lines])
