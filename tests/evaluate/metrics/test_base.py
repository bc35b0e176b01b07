"""Masks and merging, which hold for every metric."""

import chex
import jax
import numpy as np
import pytest

from avq.evaluate.metrics import METRICS, meanings, merge

from .metric_helpers import ABOUT, SIZES, grids, pictures, sums

each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@each_metric
def test_rows_that_are_masked_do_not_count(metric):
    images, targets = pictures(5)
    codes = grids(5)
    mask = np.array([True, True, False, True, False])
    clean = sums(metric, images[mask], targets[mask], tuple(c[mask] for c in codes))
    images[~mask], targets[~mask] = np.nan, np.inf
    for grid, k in zip(codes, SIZES, strict=True):
        grid[~mask] = k - 1
    chex.assert_trees_all_close(sums(metric, images, targets, codes, mask), clean, rtol=1e-6)


@each_metric
def test_merged_batches_of_unequal_size_equal_one_big_batch(metric):
    images, targets = pictures(7)
    codes = grids(7)
    parts = [
        sums(metric, images[rows], targets[rows], tuple(c[rows] for c in codes))
        for rows in (slice(0, 1), slice(1, 3), slice(3, 7))
    ]
    merged = merge(merge(parts[0], parts[1]), parts[2])
    whole = sums(metric, images, targets, codes)
    chex.assert_trees_all_close(merged, whole, rtol=1e-5)
    actual, expected = metric.summary(merged, ABOUT), metric.summary(whole, ABOUT)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5)


@each_metric
def test_values_are_those_whose_meaning_is_given_in_the_same_order(metric):
    images, targets = pictures(3)
    targets[0] = 0.25  # flat: dots are measured in flat areas alone
    assert list(metric.summary(sums(metric, images, targets), ABOUT)) == list(metric.meaning)


def test_merging_does_not_lose_single_images_among_very_many():
    one = sums(METRICS["mae"], *pictures(1))
    many = jax.tree.map(lambda leaf: np.full_like(leaf, 2**24, np.float64), one)
    assert merge(many, one).n == 2**24 + 1
    np.testing.assert_allclose(merge(many, one).total - 2**24, np.float64(one.total), rtol=1e-6)


def test_every_key_of_an_evaluation_has_a_meaning():
    keys = "n mae mae_over_std mae_over_var psnr psnr_pooled ssim ms_ssim ms_ssim_scales symmetry"
    keys += " dots dots_of_inputs active_codes perplexity usage entropy_bits effective_rank"
    keys += " bits_per_pixel decoded_levels interval by_source image_size crop range baselines"
    keys += " trained_on step split data weights"
    assert set(meanings()) == set(keys.split())
    assert all(meanings().values())
