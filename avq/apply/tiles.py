"""Images of any size as overlapping tiles of one size, and back without seams."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Num

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of an image.

    Attributes:
        length: of the side that the tiles cover, a multiple of `stride`, at least `tile`.
        tile: length of a tile, a multiple of `stride`.
        stride: what starts and borders of tiles are multiples of.
    """

    length: int
    tile: int
    stride: int

    @property
    def overlap(self) -> int:
        """Length that neighbours share at least: a quarter of a tile, rounded up; nothing where a
        tile is one stride long.
        """
        quarter = -(-self.tile // (4 * self.stride)) * self.stride
        return min(quarter, self.tile - self.stride)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where tiles start, as evenly as the stride allows."""
        rest = self.length - self.tile
        gaps = -(-rest // (self.tile - self.overlap))
        even = (rest * i / max(gaps, 1) for i in range(gaps + 1))
        return tuple(round(start / self.stride) * self.stride for start in even)

    @cached_property
    def middles(self) -> tuple[int, ...]:
        """Middle of each overlap."""
        pairs = zip(self.starts, self.starts[1:], strict=False)
        return tuple((left + self.tile + right) // 2 for left, right in pairs)

    def part(self, index: int, stride: int) -> tuple[slice, slice]:
        """What a tile answers for, up to the middles of its overlaps: places of its own grid, and
        of that of the whole.

        Args:
            index: of the tile.
            stride: pixels of a place, which divides the tiles' stride.
        """
        inner = (middle // self.stride * self.stride for middle in self.middles)
        low, high = (0, *inner, self.length)[index : index + 2]
        start = self.starts[index]
        own = slice((low - start) // stride, (high - start) // stride)
        return own, slice(low // stride, high // stride)

    def weights(self, index: int) -> Float[np.ndarray, "t"]:
        """Weights of a tile's pixels: each tile fades into the next around the middle of their
        overlap, so that they add up to 1.
        """
        place = np.arange(self.tile, dtype=np.float32) + (self.starts[index] + 0.5)
        before, after = self.middles[max(index - 1, 0) : index], self.middles[index : index + 1]
        weights = np.ones(self.tile, np.float32)
        for middle in (*before, *after):
            rising = (place - np.float32(middle)) / np.float32(max(self.overlap, 1))
            weights *= np.clip(0.5 + (rising if middle in before else -rising), 0, 1)
        return weights


@dataclass(frozen=True)
class Tiling:
    """Tiles of an image, row by row.

    Attributes:
        rows, columns: tiles along its height and width.
    """

    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that the tiles cover, pixels."""
        return self.rows.length, self.columns.length

    @property
    def boxes(self) -> list[Box]:
        """Places of the tiles, pixels."""
        return [
            (slice(top, top + self.rows.tile), slice(left, left + self.columns.tile))
            for top in self.rows.starts
            for left in self.columns.starts
        ]

    def joined(
        self, grids: Sequence[Num[np.ndarray, "t u"]], stride: int
    ) -> Num[np.ndarray, "h w"]:
        """One grid of those of the tiles: each place from the tile that answers for it.

        Args:
            grids: one a tile.
            stride: pixels of a place, which divides the tiles' stride.
        """
        height, width = self.shape
        whole = np.zeros((height // stride, width // stride), grids[0].dtype)
        for (row, column), grid in zip(self._places(), grids, strict=True):
            (down, to_down), (across, to_across) = (
                self.rows.part(row, stride),
                self.columns.part(column, stride),
            )
            whole[to_down, to_across] = grid[down, across]
        return whole

    def blended(self, tiles: Iterator[Float[np.ndarray, "t u c"]]) -> Float[np.ndarray, "h w c"]:
        """One picture of those of the tiles, each fading into the next over their overlap."""
        whole: np.ndarray | None = None
        for (row, column), box, tile in zip(self._places(), self.boxes, tiles, strict=True):
            if whole is None:
                whole = np.zeros((*self.shape, tile.shape[-1]), np.float32)
            down, across = self.rows.weights(row), self.columns.weights(column)
            whole[box] += tile * down[:, None, None] * across[None, :, None]
        assert whole is not None
        return whole

    def _places(self) -> Iterator[tuple[int, int]]:
        """Row and column of each tile."""
        for row in range(len(self.rows.starts)):
            for column in range(len(self.columns.starts)):
                yield row, column


def tiling(height: int, width: int, side: int, stride: int) -> Tiling:
    """Tiles of an image, or of what it becomes when it is continued to fill them.

    Args:
        height, width: of the image.
        side: of the square tiles, a multiple of `stride`.
        stride: of the model.
    """
    down, across = (max(side, -(-length // stride) * stride) for length in (height, width))
    return Tiling(Axis(down, side, stride), Axis(across, side, stride))


def reflected(
    values: Num[np.ndarray, "h w *c"], height: int, width: int
) -> Num[np.ndarray, "H W *c"]:
    """Continues an image, or a grid of codes, to the right and below by its reflection."""
    missing = [(0, height - values.shape[0]), (0, width - values.shape[1])]
    return np.pad(values, missing + [(0, 0)] * (values.ndim - 2), mode="symmetric")
