"""Measures of `python -m benchmarks.samples`."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avq.evaluate.distances import kernel_distances
from benchmarks.use.samples import Distance, by_frequencies, compared


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 8)), rng.normal(size=(40, 8)) + 0.5


def test_distance_is_the_unbiased_one_of_evaluation(sets):
    x, y = sets[0], sets[1][:30]
    (expected,) = kernel_distances(x, y)
    assert Distance(x, y)(np.ones(30), np.ones(30)) == pytest.approx(expected)


def test_weights_count_members_but_never_pair_one_with_itself(sets):
    rng = np.random.default_rng(1)
    x, y = sets
    counts = [rng.integers(0, 3, len(side)) for side in sets]

    def mean(left, right, left_counts, right_counts, same):
        values = [
            (left_counts[i] * right_counts[j], (left[i] @ right[j] / 8 + 1) ** 3)
            for i in range(len(left))
            for j in range(len(right))
            if not (same and i == j)
        ]
        weights, kernels = map(np.array, zip(*values, strict=True))
        return (weights * kernels).sum() / weights.sum()

    expected = mean(x, x, counts[0], counts[0], True) + mean(y, y, counts[1], counts[1], True)
    expected -= 2 * mean(x, y, counts[0], counts[1], False)
    assert Distance(x, y)(*(each.astype(float) for each in counts)) == pytest.approx(expected)


def test_intervals_hold_the_distances_and_the_nearer_set_is_nearer():
    rng = np.random.default_rng(0)
    test = rng.normal(size=(200, 8))
    near, far = rng.normal(size=(200, 8)) + 0.3, rng.normal(size=(200, 8)) + 1
    found = compared(test, {"samples": near, "frequencies": far, "decoded": test + 0.01})
    for figures in found.values():
        low, high = figures["interval"]
        assert low < figures["value"] < high
    ratio = found["frequencies"]["value"] / found["samples"]["value"]
    assert found["times_nearer"]["value"] == pytest.approx(ratio)
    assert found["times_nearer"]["interval"][0] > 1


def test_codes_of_frequencies_are_drawn_from_all_places():
    stub: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(decode=lambda grids: grids),
        module=SimpleNamespace(grids=((2, 2),)),
    )
    known = np.array([0, 0, 0, 5] * 4).reshape(4, 2, 2)
    (drawn,) = by_frequencies(stub, [known], 500)
    assert drawn.shape == (500, 2, 2)
    assert np.mean(drawn == 5) == pytest.approx(0.25, abs=0.03)
