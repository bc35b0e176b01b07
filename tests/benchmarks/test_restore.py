"""Measures of `python -m benchmarks.restore`."""

import numpy as np
import pytest

from benchmarks.use.restore import auroc, psnr


def test_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs))


def test_psnr_of_a_hole_counts_its_pixels_alone():
    image = np.full((8, 8, 3), 100, np.uint8)
    made, hole = image.astype(float), np.zeros((8, 8), bool)
    hole[2:4, 2:4] = True
    made[hole] += 10.4  # is rounded to 10
    made[0, 0] = 0
    assert psnr(made, image, hole) == pytest.approx(20 * np.log10(255 / 10))
