"""Structural similarity against scikit-image's of 0..255, at several scales against
torchmetrics'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from avq.evaluate.metrics.ssim import (
    MultiScaleStructuralSimilarity,
    StructuralSimilarity,
    ms_ssim,
    scales,
    ssim,
)
from avq.pixels import to_float

from .metric_helpers import ABOUT, pictures, sums
from .ms_ssim_expected import EXPECTED, SCALES, fixed_pictures


def in_bytes(n, noise=0.2):
    """Images and noisy copies of them, 0..255."""
    return [np.round((x + 1) * 127.5).astype(np.uint8) for x in pictures(n, noise=noise)]


def by_scikit_image(images, targets):
    return [
        structural_similarity(
            t,
            i,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=-1,
        )
        for i, t in zip(images, targets, strict=True)
    ]


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_ssim_equals_that_of_scikit_image(noise):
    images, targets = in_bytes(3, noise)
    actual = ssim(to_float(jnp.asarray(images)), to_float(jnp.asarray(targets)))
    np.testing.assert_allclose(actual, by_scikit_image(images, targets), atol=2e-5)


def test_brightening_costs_what_scikit_image_says():
    _, targets = in_bytes(2)
    targets = np.minimum(targets, 247)
    actual = ssim(to_float(jnp.asarray(targets + 8)), to_float(jnp.asarray(targets)))
    np.testing.assert_allclose(actual, by_scikit_image(targets + 8, targets), atol=2e-5)


def test_summary_is_the_mean_over_images():
    images, targets = in_bytes(5)
    metric = StructuralSimilarity()
    total = sums(metric, to_float(jnp.asarray(images)), to_float(jnp.asarray(targets)))
    expected = np.mean(by_scikit_image(images, targets))
    assert 0 < expected < 1
    np.testing.assert_allclose(metric.summary(total, ABOUT)["ssim"], expected, atol=2e-5)


@pytest.mark.parametrize("side", SCALES)
def test_ms_ssim_equals_that_of_torchmetrics(side):
    assert scales(side) == SCALES[side]
    images, targets = (to_float(jnp.asarray(x)) for x in fixed_pictures(side))
    np.testing.assert_allclose(jax.jit(ms_ssim)(images, targets), EXPECTED[side], atol=1e-5)


@pytest.mark.parametrize(
    ("side", "expected"), [(11, 1), (21, 1), (22, 2), (43, 2), (175, 4), (176, 5), (1024, 5)]
)
def test_scales_are_those_that_the_window_fits_into(side, expected):
    assert scales(side) == expected


def test_ms_ssim_of_a_negative_image_is_zero():
    images, _ = pictures(2)
    assert np.all(np.asarray(ms_ssim(jnp.asarray(-images), jnp.asarray(images))) == 0)


def test_ms_ssim_is_given_with_its_number_of_scales():
    images, _ = pictures(2)
    metric = MultiScaleStructuralSimilarity()
    summary = metric.summary(sums(metric, images, images), ABOUT)
    assert summary == {"ms_ssim": pytest.approx(1, abs=1e-5), "ms_ssim_scales": 1}
