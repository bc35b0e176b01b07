"""Order of the codes of an image, and what is around each of them.

A sequence has the codes of all levels, coarsest level first and row by row. A code in it is an
integer from 0 on, or `UNKNOWN` where it is still to be drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

Grids = tuple[tuple[int, int], ...]  # height and width by level, finest first
Offsets = tuple[tuple[int, int], ...]  # rows down and columns to the right

UNKNOWN = -1
HERE_AND_BEFORE: Offsets = ((0, 0), (0, -1), (-1, -1), (-1, 0), (-1, 1))
HERE_AND_BESIDE: Offsets = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
ALL_AROUND: Offsets = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1))
# Those earlier in the order, up to two rows and columns away.
BEFORE: Offsets = tuple(
    (down, across) for down in (-2, -1, 0) for across in range(-2, 3) if (down, across) < (0, 0)
)


class Span(NamedTuple):
    """Part of a sequence that holds a level: from `start` to before `end`."""

    level: int
    start: int
    end: int


def spans(grids: Grids) -> list[Span]:
    """Spans of the levels, coarsest first, which is their order in a sequence."""
    result: list[Span] = []
    for level in reversed(range(len(grids))):
        start = result[-1].end if result else 0
        height, width = grids[level]
        result.append(Span(level, start, start + height * width))
    return result


def to_sequence(codes: Sequence[Integer[Array, "b _h _w"]]) -> Int[Array, "b n"]:
    """Grids of codes, finest level first, as int32 sequences."""
    flat = [grid.reshape(len(grid), -1).astype(jnp.int32) for grid in reversed(codes)]
    return jnp.concatenate(flat, axis=1)


def to_grids(sequence: Int[Array, "b n"], grids: Grids) -> tuple[Int[Array, "b _h _w"], ...]:
    """Sequences as grids of codes, finest level first."""
    parts = {level: sequence[:, start:end] for level, start, end in spans(grids)}
    return tuple(parts[level].reshape(-1, *grid) for level, grid in enumerate(grids))


def neighbours(grids: Grids, own: Offsets) -> Int[np.ndarray, "n s"]:
    """Places around each place of a sequence: those of its level at some offsets, then the nine of
    the next coarser level about the co-located one. The length of a sequence stands for what lies
    outside the grid, and for the parents of the coarsest level.
    """
    n = spans(grids)[-1].end
    starts = {level: start for level, start, _ in spans(grids)}
    result, all_near = [], nearby(grids, own)
    for level, start, end in spans(grids):
        rows, columns = np.divmod(np.arange(np.prod(grids[level])), grids[level][1])
        near = all_near[start:end]
        parents = np.full((len(rows), len(ALL_AROUND)), n)
        if level + 1 < len(grids):
            (height, width), (above, across) = grids[level], grids[level + 1]
            where = rows * above // height, columns * across // width
            parents = _at(*where, ALL_AROUND, grids[level + 1], starts[level + 1], n)
        result.append(np.concatenate([near, parents], axis=1))
    return np.concatenate(result)


def nearby(grids: Grids, offsets: Offsets) -> Int[np.ndarray, "n s"]:
    """Places of the same level at some offsets from each place of a sequence, whose length stands
    for what lies outside the grid.
    """
    result, n = [], spans(grids)[-1].end
    for level, start, end in spans(grids):
        rows, columns = np.divmod(np.arange(end - start), grids[level][1])
        result.append(_at(rows, columns, offsets, grids[level], start, n))
    return np.concatenate(result)


def shifted(x: Float[Array, "b n c"], grids: Grids, offsets: Offsets) -> Float[Array, "b n _f"]:
    """Features of the places `nearby`, zeros for what lies outside the grid; without an index,
    whose gradient takes long on a CPU.

    Args:
        x: of the first places of a sequence, whole levels.
        grids: height and width by level, finest first.
        offsets: of what each place has.
    """
    margin = max(abs(offset) for pair in offsets for offset in pair)
    around, result = (margin, margin), []
    for level, start, end in spans(grids):
        if start == x.shape[1]:
            break
        height, width = grids[level]
        grid = x[:, start:end].reshape(len(x), height, width, -1)
        padded = jnp.pad(grid, ((0, 0), around, around, (0, 0)))
        parts = [
            padded[:, margin + down :, margin + across :][:, :height, :width]
            for down, across in offsets
        ]
        result.append(jnp.concatenate(parts, axis=-1).reshape(len(x), end - start, -1))
    return jnp.concatenate(result, axis=1)


def _at(
    rows: Int[np.ndarray, "m"],
    columns: Int[np.ndarray, "m"],
    offsets: Offsets,
    grid: tuple[int, int],
    start: int,
    outside: int,
) -> Int[np.ndarray, "m _o"]:
    down, across = np.array(offsets).T
    rows, columns = rows[:, None] + down[None], columns[:, None] + across[None]
    height, width = grid
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, start + rows * width + columns, outside)


def coordinates(grids: Grids) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Row and column of each place of a sequence, counted through all levels: no two levels have a
    row or a column in common.
    """
    rows, columns, first_row, first_column = [], [], 0, 0
    for level, _, _ in spans(grids):
        height, width = grids[level]
        row, column = np.divmod(np.arange(height * width), width)
        rows.append(first_row + row)
        columns.append(first_column + column)
        first_row, first_column = first_row + height, first_column + width
    return np.concatenate(rows), np.concatenate(columns)


def relations(grids: Grids) -> tuple[Int[np.ndarray, "n n"], Float[np.ndarray, "r"]]:
    """How any two places of a sequence lie to one another: the number of their relation, which two
    pairs share where their levels and their offset are the same; and the distance of each relation,
    in codes of the finest level.
    """
    rows, columns, levels = [], [], []
    for level, _, _ in spans(grids):
        (height, width), (whole, across) = grids[level], grids[0]
        row, column = np.divmod(np.arange(height * width), width)
        rows.append((2 * row + 1) * whole // height)  # centres, in halves of a code
        columns.append((2 * column + 1) * across // width)
        levels.append(np.full(height * width, level))
    y, x, of = (np.concatenate(parts) for parts in (rows, columns, levels))
    down, right = y[:, None] - y[None], x[:, None] - x[None]
    pair = of[:, None] * len(grids) + of[None]
    # One number for the pair of levels and both offsets, which are below twice the grid's sides.
    numbers = (pair * 4 * grids[0][0] + down) * 4 * grids[0][1] + right
    _, first, index = np.unique(numbers, return_index=True, return_inverse=True)
    distances = np.hypot(down, right).ravel()[first] / 2
    return index.reshape(numbers.shape), distances
