"""Harmonic fill: solutions of Laplace's equation on the pixels of a hole."""

import numpy as np
import pytest

from avq.apply.restore.harmonic import HarmonicFill
from avq.errors import InputError


def test_polynomials_that_are_harmonic_on_the_grid_are_continued_exactly():
    y, x = np.mgrid[:12, :15].astype(np.float32) / 15
    values = np.stack([x * x - y * y, x * y, 3 * x + y], axis=-1)
    hole = np.zeros((12, 15), bool)
    hole[3:8, 4:10] = hole[9:11, 1:3] = True
    damaged = np.where(hole[..., None], np.float32(99), values)
    filled = HarmonicFill(hole)(damaged)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, values, atol=1e-5)
    np.testing.assert_array_equal(filled[~hole], values[~hole])


def test_every_pixel_of_a_hole_at_the_edge_is_the_mean_of_its_neighbours():
    rng = np.random.default_rng(0)
    values = rng.random((9, 8, 1))
    hole = rng.random((9, 8)) < 0.5
    hole[:3, :3] = True
    filled = HarmonicFill(hole)(values)[..., 0]
    for y, x in np.argwhere(hole):
        beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [filled[p] for p in beside if 0 <= p[0] < 9 and 0 <= p[1] < 8]
        assert filled[y, x] == pytest.approx(np.mean(inside))


def test_hole_of_nothing_changes_nothing_and_of_everything_is_refused():
    values = np.ones((4, 4, 3))
    filled = HarmonicFill(np.zeros((4, 4), bool))(values)
    np.testing.assert_array_equal(filled, values)
    with pytest.raises(InputError, match="covers the whole image"):
        HarmonicFill(np.ones((4, 4), bool))
