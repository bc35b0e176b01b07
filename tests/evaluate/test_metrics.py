"""Measures against scikit-image and numpy; masks, and merging of batches."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from avq.evaluate.metrics import batch_sums, merge, psnr, ssim, summarize

K = 6
SUMS = jax.jit(batch_sums, static_argnames="k")


def pictures(n, seed=0, noise=0.2):
    """Images in [-1, 1] and noisy copies of them, the error of each another one."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (n, 4, 5, 3))
    targets = np.repeat(np.repeat(coarse, 4, 1), 4, 2)
    scale = noise * rng.uniform(0.2, 1, (n, 1, 1, 1))
    images = np.clip(targets + rng.normal(0, scale, targets.shape), -1, 1)
    return images.astype(np.float32), targets.astype(np.float32)


def grids(n, seed=0, low=0, high=K):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(low, high, (n, side, side)).astype(np.int32) for side in (4, 2))


def sums(images, targets, codes, mask=None):
    mask = np.ones(len(images), bool) if mask is None else mask
    return jax.device_get(SUMS(images, targets, codes, mask, k=K))


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_psnr_equals_that_of_scikit_image(noise):
    images, targets = pictures(3, noise=noise)
    expected = [
        peak_signal_noise_ratio(t, i, data_range=2) for i, t in zip(images, targets, strict=True)
    ]
    np.testing.assert_allclose(psnr(jnp.asarray(images), jnp.asarray(targets)), expected, rtol=1e-4)


def test_psnr_of_an_exact_copy_is_finite():
    images = jnp.asarray(pictures(2)[0])
    np.testing.assert_allclose(psnr(images, images), 100, rtol=1e-5)


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_ssim_equals_that_of_scikit_image(noise):
    images, targets = pictures(3, noise=noise)
    expected = [
        structural_similarity(
            t,
            i,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=2,
            channel_axis=-1,
        )
        for i, t in zip(images.astype(np.float64), targets.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(ssim(jnp.asarray(images), jnp.asarray(targets)), expected, atol=2e-5)


def test_sums_are_those_of_the_single_images():
    images, targets = pictures(5)
    total = sums(images, targets, grids(5))
    assert total.n == 5
    mae = np.abs(images.astype(np.float64) - targets).mean((1, 2, 3)).sum()
    np.testing.assert_allclose(total.absolute_error, mae, rtol=1e-5)
    expected = sum(
        peak_signal_noise_ratio(t, i, data_range=2) for i, t in zip(images, targets, strict=True)
    )
    np.testing.assert_allclose(total.psnr, expected, rtol=1e-4)


def test_images_are_clipped_to_the_range_of_pixels_first():
    images, targets = pictures(5, noise=0.5)
    beyond = np.where(np.abs(images) == 1, images * 3, images)
    assert np.any(beyond != images)
    chex.assert_trees_all_equal(sums(beyond, targets, grids(5)), sums(images, targets, grids(5)))


def test_rows_that_are_masked_do_not_count():
    images, targets = pictures(5)
    codes = grids(5)
    mask = np.array([True, True, False, True, False])
    clean = sums(images[mask], targets[mask], tuple(c[mask] for c in codes))
    images[~mask], targets[~mask] = np.nan, np.inf
    for grid in codes:
        grid[~mask] = K - 1
    chex.assert_trees_all_close(sums(images, targets, codes, mask), clean, rtol=1e-6)


def test_merged_batches_of_unequal_size_equal_one_big_batch():
    images, targets = pictures(7)
    codes = grids(7)
    parts = [
        sums(images[rows], targets[rows], tuple(c[rows] for c in codes))
        for rows in (slice(0, 1), slice(1, 3), slice(3, 7))
    ]
    merged = merge(merge(parts[0], parts[1]), parts[2])
    chex.assert_trees_all_close(merged, sums(images, targets, codes), rtol=1e-5)


def test_merging_does_not_lose_single_images_among_very_many():
    one = sums(*pictures(1), grids(1))
    many = jax.tree.map(lambda leaf: np.full_like(leaf, 2**24, np.float64), one)
    assert merge(many, one).n == 2**24 + 1
    np.testing.assert_allclose(
        merge(many, one).absolute_error - 2**24, np.float64(one.absolute_error), rtol=1e-6
    )


def test_codes_are_counted_per_level():
    codes = grids(5, seed=3)
    total = sums(*pictures(5), codes)
    expected = tuple(np.bincount(grid.ravel(), minlength=K) for grid in codes)
    chex.assert_trees_all_equal(
        total.code_counts, tuple(counts.astype(np.float32) for counts in expected)
    )


def test_summary_divides_by_images_and_by_the_training_pixels():
    images, targets = pictures(4)
    summary = summarize(sums(images, targets, grids(4)), pixel_std=0.5, pixel_variance=0.25)
    mae = np.abs(images - targets).mean()
    assert summary["n"] == 4
    np.testing.assert_allclose(summary["mae"], mae, rtol=1e-5)
    np.testing.assert_allclose(summary["mae_over_std"], mae / 0.5, rtol=1e-5)
    np.testing.assert_allclose(summary["mae_over_var"], mae / 0.25, rtol=1e-5)
    np.testing.assert_allclose(
        summary["psnr"],
        np.mean(
            [peak_signal_noise_ratio(*p, data_range=2) for p in zip(images, targets, strict=True)]
        ),
        rtol=1e-4,
    )
    assert 0 < summary["ssim"] < 1


def test_code_use_is_over_the_whole_set_and_not_one_batch():
    low, high = grids(2, low=0, high=2), grids(3, seed=1, low=2, high=5)
    parts = [sums(*pictures(len(codes[0])), codes) for codes in (low, high)]
    summary = summarize(merge(*parts), pixel_std=1.0, pixel_variance=1.0)
    everything = [np.concatenate(pair).ravel() for pair in zip(low, high, strict=True)]
    active = [len(np.unique(codes)) for codes in everything]
    assert summary["active_codes"] == active == [5, 5]
    assert summary["usage"] == [5 / K, 5 / K]
    for level, codes in enumerate(everything):
        share = np.unique(codes, return_counts=True)[1] / codes.size
        expected = np.exp(-np.sum(share * np.log(share)))
        np.testing.assert_allclose(summary["perplexity"][level], expected, rtol=1e-5)
