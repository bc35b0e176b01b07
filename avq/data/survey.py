"""`avq data`: counts, sizes and pixel statistics of a set of images."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.data.channels import displayed
from avq.data.dataset import dark_images, evenly, in_words
from avq.data.images import UnreadableImage
from avq.data.settings import Data
from avq.data.sources import Source
from avq.data.split import open_splits
from avq.data.views import centre_square

TILE, SHEET_COLUMNS, SHEET_ROWS = 96, 10, 6
AHEAD = 64  # images that the threads read at a time
Sides = dict[str, dict[str, int | float]]
Square = UInt8[np.ndarray, "s s c"]


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
        split_rule: how the images were split, in words.
        unused: number of images and other files in neither split, by kind.
        warning: about images that come out dark, else ''.
        sheet: contact sheet of 60 images, or all if there are fewer, evenly spaced.
    """

    counts: dict[str, int]
    sides: Sides
    rejected: list[dict[str, str]]
    pixel_mean: float
    pixel_std: float
    pixel_variance: float
    size: int
    split_rule: str
    unused: dict[str, int]
    warning: str
    sheet: UInt8[np.ndarray, "H W 3"] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """All but the sheet."""
        return {name: value for name, value in vars(self).items() if name != "sheet"}

    def as_text(self) -> str:
        """Table for a terminal, one unreadable file a line."""
        lines = [f"{count} {split} images" for split, count in self.counts.items()]
        lines.append(f"split: {self.split_rule}")
        lines += [f"not used: {in_words(self.unused)}"] if self.unused else []
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
        lines += [f"warning: {self.warning}"] if self.warning else []
        return "\n".join(lines)


def survey(
    data: Data,
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda done: None,
) -> Survey:
    """Reads every image of a path.

    Args:
        data: path, split, and size of the squares that statistics are measured on.
        on_total: called with the number of images before the first is read.
        on_images: called with the number of images read since the call before.

    Raises:
        InputError: for a path without images, or whose folders look like a split and are none.
    """
    splits = open_splits(data)
    sources = {"train": splits.train, "test": splits.test}
    on_total(sum(map(len, sources.values())))
    counts = dict.fromkeys(sources, 0)
    sides: list[list[int]] = []
    rejected: list[dict[str, str]] = []
    tiles: list[Square] = []
    moments = np.zeros(2)
    shown = _shown(len(splits.train), len(splits.test))
    for split, source in sources.items():
        kept = set(evenly(len(source), shown[split]))
        for row, image in _read_all(source, data.image_size):
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
                tiles.append(displayed(centre_square(image.square, TILE)))
    warnings = (dark_images(source, data.white_level) for source in sources.values())
    mean, square_mean = moments / max(1, counts["train"])
    variance = float(square_mean - mean**2)
    return Survey(
        counts=counts,
        sides=_described(sides),
        rejected=rejected,
        pixel_mean=float(mean),
        pixel_std=variance**0.5,
        pixel_variance=variance,
        size=data.image_size,
        split_rule=splits.rule,
        unused=splits.unused,
        warning=next(filter(None, warnings), ""),
        sheet=_sheet(tiles),
    )


def _shown(train: int, test: int) -> dict[str, int]:
    """Images of each split on the sheet: half of it, and what the other leaves free."""
    places = SHEET_COLUMNS * SHEET_ROWS
    of_test = min(test, max(places // 2, places - train))
    return {"train": places - of_test, "test": of_test}


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
