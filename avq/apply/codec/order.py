"""Order in which the codes of an image are coded, and what is known around them by then.

Levels come coarsest first. The coarsest begins with every fourth code of every fourth row and
continues by halving the distance between known ones: first the middles of four, then those between
two. A finer level begins with every other code of every other row, from the coarser level alone,
and continues alike. So the codes of a step do not depend on one another, and an image takes few
steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

SCALES = 2  # distances of neighbours in the coarsest level, 1 and 2, each with own parameters
Offsets = tuple[tuple[int, int], ...]
DIAGONAL: Offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1))
STRAIGHT: Offsets = ((0, -1), (0, 1), (-1, 0), (1, 0))
# Of the three steps of a distance: what is known nearest to the middles of four, between two of a
# row, and between two of a column.
KNOWN: tuple[Offsets, ...] = (
    (*DIAGONAL, (-1, -3), (1, 3), (-3, 1), (3, -1)),
    (*STRAIGHT, (-2, -1), (-2, 1), (2, -1), (2, 1)),
    (*STRAIGHT, *DIAGONAL),
)
CROSS: Offsets = ((0, 0), *STRAIGHT)
AROUND: Offsets = (*CROSS, *DIAGONAL)


@dataclass(frozen=True)
class Step:
    """Codes of a level that are coded together: every `spacing`-th of every `spacing`-th row.

    Attributes:
        kind: which parameters predict them, below `kinds`.
        top, left: row and column of the first.
        spacing: distance between them.
        neighbours: places of known codes of the level, seen from each.
        around: places of codes of the coarser level, seen from the co-located one.
    """

    kind: int
    top: int
    left: int
    spacing: int
    neighbours: Offsets
    around: Offsets

    @property
    def places(self) -> tuple[slice, slice]:
        """Their rows and columns."""
        return slice(self.top, None, self.spacing), slice(self.left, None, self.spacing)


def kinds(has_parent: bool) -> int:
    """Kinds of steps of a level."""
    return 1 + 3 * (1 if has_parent else SCALES)


def slots(has_parent: bool) -> int:
    """Number of codes around each that predict it."""
    return len(KNOWN[0]) + len(CROSS) * has_parent


def steps(height: int, width: int, has_parent: bool) -> Iterator[Step]:
    """Steps of a level, which cover its grid once.

    Args:
        height, width: of its grid.
        has_parent: whether there is a coarser level.
    """
    spacing = 2 if has_parent else 1 << SCALES
    yield Step(0, 0, 0, spacing, (), AROUND if has_parent else ())
    while spacing > 1:
        half = spacing // 2
        first = 1 + 3 * (half.bit_length() - 1)
        for kind, (top, left) in enumerate(((half, half), (0, half), (half, 0))):
            neighbours = tuple((down * half, across * half) for down, across in KNOWN[kind])
            yield Step(first + kind, top, left, spacing, neighbours, CROSS if has_parent else ())
        spacing = half


def contexts(
    step: Step,
    grid: Int[np.ndarray, "*b h w"],
    parent: Int[np.ndarray, "*b _p _q"] | None,
    sizes: Sequence[int],
) -> Int[np.ndarray, "*b n m s"]:
    """What is known around each code of a step: its neighbours in the level, then the co-located
    code of the coarser level and those around that.

    Args:
        step: the codes.
        grid: codes of the level; only known ones are read.
        parent: codes of the coarser level, if there is one.
        sizes: of the codebooks of both.

    Returns:
        Rows of the network's embeddings: codes of the level, one row for what lies outside or is
        not known, codes of the coarser level, and such a row again.
    """
    places = [range(side)[part] for side, part in zip(grid.shape[-2:], step.places, strict=True)]
    number = slots(parent is not None)
    known = np.full((*grid.shape[:-2], *map(len, places), number), sizes[0])
    near = len(step.neighbours)
    _fill(known, grid, places, step.neighbours, sizes[0])
    if parent is not None:  # the spacing is 2
        first, halves = sizes[0] + 1, [range(len(each)) for each in places]
        _fill(known[..., near:], parent + first, halves, step.around, first + sizes[1])
    return known


def _fill(
    known: Int[np.ndarray, "*b n m s"],
    grid: Int[np.ndarray, "*b h w"],
    places: Sequence[range],
    offsets: Offsets,
    outside: int,
) -> None:
    """Writes what is at such offsets from each row and column, `outside` where these leave the
    grid: by a slice for each offset, since an index for each code takes far longer.
    """
    margin = max((abs(offset) for pair in offsets for offset in pair), default=0)
    height, width = grid.shape[-2:]
    padded = np.full((*grid.shape[:-2], height + 2 * margin, width + 2 * margin), outside)
    padded[..., margin : margin + height, margin : margin + width] = grid
    (top, high), (left, wide) = ((margin + each.start, len(each) * each.step) for each in places)
    for slot, (down, across) in enumerate(offsets):
        rows = slice(top + down, top + down + high, places[0].step)
        columns = slice(left + across, left + across + wide, places[1].step)
        known[..., slot] = padded[..., rows, columns]
