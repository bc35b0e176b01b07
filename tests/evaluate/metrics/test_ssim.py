"""Structural similarity against scikit-image."""

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from avq.evaluate.metrics.ssim import StructuralSimilarity, ssim

from .metric_helpers import ABOUT, pictures, sums


def by_scikit_image(images, targets):
    return [
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


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_ssim_equals_that_of_scikit_image(noise):
    images, targets = pictures(3, noise=noise)
    actual = ssim(jnp.asarray(images), jnp.asarray(targets))
    np.testing.assert_allclose(actual, by_scikit_image(images, targets), atol=2e-5)


def test_summary_is_the_mean_over_images():
    images, targets = pictures(5)
    summary = StructuralSimilarity().summary(sums(StructuralSimilarity(), images, targets), ABOUT)
    expected = np.mean(by_scikit_image(images, targets))
    assert 0 < expected < 1
    np.testing.assert_allclose(summary["ssim"], expected, atol=2e-5)
