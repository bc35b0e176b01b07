"""Codebook usage and perplexity against numpy, for codebooks of different sizes."""

from collections.abc import Mapping
from typing import Any

import chex
import numpy as np
import pytest

from avq.evaluate.metrics import merge
from avq.evaluate.metrics.code_use import CodeUse, effective_rank, perplexity, usage

from .metric_helpers import ABOUT, SIZES, pictures, sums


def codes(n, seed, ranges):
    """Codes of every level, drawn from that level's range."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.integers(low, high, (n, side, side)).astype(np.int32)
        for side, (low, high) in zip((4, 2), ranges, strict=True)
    )


def test_codes_are_counted_per_level():
    grids = codes(5, 3, [(0, k) for k in SIZES])
    actual = sums(CodeUse(), *pictures(5), grids)
    expected = tuple(
        np.bincount(grid.ravel(), minlength=k).astype(np.float32)
        for grid, k in zip(grids, SIZES, strict=True)
    )
    chex.assert_trees_all_equal(actual, expected)


def test_code_use_is_over_the_whole_set_and_not_one_batch():
    low, high = codes(2, 0, [(0, 2), (0, 1)]), codes(3, 1, [(2, 5), (1, 3)])
    parts = [sums(CodeUse(), *pictures(len(grids[0])), grids) for grids in (low, high)]
    summary: Mapping[str, Any] = CodeUse().summary(merge(*parts), ABOUT)
    everything = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(low, high, strict=True)]
    active = [len(np.unique(level)) for level in everything]
    assert summary["active_codes"] == active == [5, 3]
    assert summary["usage"] == [5 / 6, 3 / 4]
    for level, used in enumerate(everything):
        share = np.unique(used, return_counts=True)[1] / used.size
        expected = np.exp(-np.sum(share * np.log(share)))
        np.testing.assert_allclose(summary["perplexity"][level], expected, rtol=1e-5)
        bits = -np.sum(share * np.log2(share))
        np.testing.assert_allclose(summary["entropy_bits"][level], bits, rtol=1e-5)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([3, 3, 3, 3, 3], 5),
        ([0, 7, 0], 1),
        ([2, 2, 0], 2),
        ([4, 2, 1, 1], 2 ** (0.5 * 1 + 0.25 * 2 + 0.25 * 3)),
    ],
)
def test_perplexity_is_the_exponential_of_the_entropy(counts, expected):
    assert perplexity(np.array(counts)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("counts", "expected"), [([0, 7, 0, 1], 0.5), ([1, 2], 1.0), ([0], 0.0)])
def test_usage_is_the_share_of_codes_chosen_at_least_once(counts, expected):
    assert usage(np.array(counts)) == expected


def test_usage_is_of_the_codes_that_so_few_choices_could_use():
    assert usage(np.array([1, 1, 1, 1] + [0] * 60)) == 1.0
    assert usage(np.array([2, 1, 1, 0] + [0] * 60)) == 0.75
    assert usage(np.array([90, 6, 4, 0])) == 0.75


def test_effective_rank_is_that_of_the_covariance_of_the_chosen_vectors():
    rng = np.random.default_rng(0)
    codebook = rng.normal(size=(20, 5)) * [4, 2, 1, 0.5, 0]
    chosen = rng.integers(0, 12, 400)  # eight codes are not in use
    spectrum = np.linalg.eigvalsh(np.cov(codebook[chosen], rowvar=False, bias=True))
    shares = spectrum[spectrum > 1e-9] / spectrum.sum()
    assert len(shares) == 4
    expected = np.exp(-np.sum(shares * np.log(shares)))
    actual = effective_rank(np.bincount(chosen, minlength=20), codebook)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_codes_on_a_line_have_rank_one_however_many_are_used():
    line = np.linspace(-3, 7, 50)[:, None] * np.ones(8) + 100
    np.testing.assert_allclose(effective_rank(np.arange(1, 51), line), 1, rtol=1e-6)


def test_one_code_has_no_direction():
    assert effective_rank(np.array([0, 9, 0]), np.eye(3)) == 0
