"""Order in which the codes of an image are coded, and what is known around them by then.

Levels come coarsest first. The coarsest begins with its first code and continues by halving the
distance between known ones: first the middles of four, then those between two. A finer level begins
with every other code of every other row, from the coarser level alone, and continues alike. So the
codes of a step do not depend on one another, and an image takes few steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

SCALES = 3  # distances 1, 2 and 4 or more have parameters of their own
DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
STRAIGHT = ((0, -1), (0, 1), (-1, 0), (1, 0))
AROUND = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1))
NEAR = len(STRAIGHT)  # known neighbours in the same level


@dataclass(frozen=True)
class Step:
    """Codes of a level that are coded together: every `spacing`-th of every `spacing`-th row.

    Attributes:
        kind: which parameters predict them, below `kinds`.
        top, left: row and column of the first.
        spacing: distance between them.
        neighbours: places of known codes of the level, seen from each.
    """

    kind: int
    top: int
    left: int
    spacing: int
    neighbours: tuple[tuple[int, int], ...]

    @property
    def places(self) -> tuple[slice, slice]:
        """Their rows and columns."""
        return slice(self.top, None, self.spacing), slice(self.left, None, self.spacing)


def kinds(has_parent: bool) -> int:
    """Kinds of steps of a level."""
    return 1 + 3 * (1 if has_parent else SCALES)


def steps(height: int, width: int, has_parent: bool) -> Iterator[Step]:
    """Steps of a level, which cover its grid once.

    Args:
        height, width: of its grid.
        has_parent: whether there is a coarser level.
    """
    spacing = 2 if has_parent else 1 << (max(height, width, 1) - 1).bit_length()
    yield Step(0, 0, 0, spacing, ())
    while spacing > 1:
        half = spacing // 2
        first = 1 + 3 * min(half.bit_length() - 1, SCALES - 1)
        diagonal, straight = (
            tuple((down * half, across * half) for down, across in offsets)
            for offsets in (DIAGONAL, STRAIGHT)
        )
        yield Step(first, half, half, spacing, diagonal)
        yield Step(first + 1, 0, half, spacing, straight)
        yield Step(first + 2, half, 0, spacing, straight)
        spacing = half


def contexts(
    step: Step,
    grid: Int[np.ndarray, "*b h w"],
    parent: Int[np.ndarray, "*b _p _q"] | None,
    sizes: Sequence[int],
) -> Int[np.ndarray, "*b n m s"]:
    """What is known around each code of a step: its neighbours in the level, then the co-located
    code of the coarser level among the eight around it.

    Args:
        step: the codes.
        grid: codes of the level; only known ones are read.
        parent: codes of the coarser level, if there is one.
        sizes: of the codebooks of both, which stand for what lies outside or is not known.
    """
    height, width = grid.shape[-2:]
    rows, columns = np.arange(height)[step.places[0]], np.arange(width)[step.places[1]]
    near = _at(grid, rows, columns, step.neighbours, sizes[0])
    if len(step.neighbours) < NEAR:
        near = np.full((*near.shape[:-1], NEAR), sizes[0])
    if parent is None:
        return near
    return np.concatenate([near, _at(parent, rows // 2, columns // 2, AROUND, sizes[1])], axis=-1)


def _at(
    grid: Int[np.ndarray, "*b h w"],
    rows: Int[np.ndarray, "n"],
    columns: Int[np.ndarray, "m"],
    offsets: Sequence[tuple[int, int]],
    outside: int,
) -> Int[np.ndarray, "*b n m s"]:
    """Codes at such offsets from each row and column, `outside` where these leave the grid."""
    height, width = grid.shape[-2:]
    down, across = np.array(offsets, int).reshape(-1, 2).T
    y, x = rows[:, None, None] + down, columns[:, None] + across
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return np.where(inside, grid[..., np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], outside)
