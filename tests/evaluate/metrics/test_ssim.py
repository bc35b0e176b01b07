"""Structural similarity against scikit-image's of 0..255."""

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from avq.evaluate.metrics.ssim import StructuralSimilarity, ssim
from avq.pixels import to_float

from .metric_helpers import ABOUT, pictures, sums


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
