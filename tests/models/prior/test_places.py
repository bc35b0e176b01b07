"""Order of the codes, what is around each, and how two lie to one another."""

import itertools
import math

import jax.numpy as jnp
import numpy as np

from avq.models.prior.places import (
    ALL_AROUND,
    BEFORE,
    nearby,
    neighbours,
    relations,
    shifted,
    spans,
    to_grids,
    to_sequence,
)

GRIDS = ((4, 8), (2, 4), (1, 2))  # levels, finest first
N = 32 + 8 + 2
# Level, row and column of each place, coarsest level first.
PLACES = [
    (level, row, column)
    for level in (2, 1, 0)
    for row, column in itertools.product(range(GRIDS[level][0]), range(GRIDS[level][1]))
]


def test_sequence_is_coarsest_first_row_by_row_and_back():
    codes = [np.arange(h * w).reshape(1, h, w) for h, w in GRIDS]
    sequence = to_sequence([jnp.asarray(grid) for grid in codes])
    assert sequence[0].tolist() == [*range(2), *range(8), *range(32)]
    for found, expected in zip(to_grids(sequence, GRIDS), codes, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [tuple(span) for span in spans(GRIDS)] == [(2, 0, 2), (1, 2, 10), (0, 10, N)]


def test_neighbours_are_those_of_the_level_and_the_parents():
    for own in (BEFORE, ALL_AROUND):
        found = neighbours(GRIDS, own)
        for place, (level, row, column) in enumerate(PLACES):
            near = [(level, row + down, column + across) for down, across in own]
            near += [(level + 1, row // 2 + i, column // 2 + j) for i, j in ALL_AROUND]
            expected = [PLACES.index(other) if other in PLACES else N for other in near]
            assert found[place].tolist() == expected


def test_what_is_before_a_code_is_before_it_in_the_order():
    found = neighbours(GRIDS, BEFORE)
    assert np.all((found < np.arange(N)[:, None]) | (found == N))


def test_relations_are_those_of_levels_and_offsets():
    index, distances = relations(GRIDS)
    seen: dict[tuple[float, ...], int] = {}
    for (i, a), (j, b) in itertools.product(enumerate(PLACES), repeat=2):
        centres = [[(x + 0.5) * 2**level for x in (row, column)] for level, row, column in (a, b)]
        offset = centres[0][0] - centres[1][0], centres[0][1] - centres[1][1]
        assert seen.setdefault((a[0], b[0], *offset), index[i, j]) == index[i, j]
        assert distances[index[i, j]] == math.hypot(*offset)
    assert len(set(seen.values())) == len(seen) == len(distances)


def test_shifted_features_are_those_of_the_places_nearby_and_zeros_outside():
    offsets = ((0, 0), (0, -1), (-1, 0), (1, 1))
    x = np.random.default_rng(0).normal(size=(2, 4 + 24, 3)).astype(np.float32)
    grids = ((4, 6), (2, 2))
    found = shifted(jnp.asarray(x), grids, offsets)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0)))
    expected = padded[:, nearby(grids, offsets)].reshape(2, 28, 12)
    np.testing.assert_array_equal(found, expected)
    coarsest = shifted(jnp.asarray(x[:, :4]), grids, offsets)
    np.testing.assert_array_equal(coarsest, expected[:, :4])
    np.testing.assert_array_equal(nearby(grids, offsets)[5], [5, 4, 28, 12])
