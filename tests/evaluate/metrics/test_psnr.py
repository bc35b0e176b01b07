"""Peak signal-to-noise ratio against scikit-image."""

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from avq.evaluate.metrics.psnr import PeakSignalToNoiseRatio, PooledPeakSignalToNoiseRatio, psnr

from .metric_helpers import ABOUT, pictures, sums


def by_scikit_image(images, targets):
    return [
        peak_signal_noise_ratio(t, i, data_range=2) for i, t in zip(images, targets, strict=True)
    ]


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_psnr_equals_that_of_scikit_image(noise):
    images, targets = pictures(3, noise=noise)
    actual = psnr(jnp.asarray(images), jnp.asarray(targets))
    np.testing.assert_allclose(actual, by_scikit_image(images, targets), rtol=1e-4)


def test_psnr_of_an_exact_copy_is_finite():
    images = jnp.asarray(pictures(2)[0])
    np.testing.assert_allclose(psnr(images, images), 100, rtol=1e-5)


def test_summary_is_the_mean_over_images():
    images, targets = pictures(5)
    total = sums(PeakSignalToNoiseRatio(), images, targets)
    expected = by_scikit_image(images, targets)
    np.testing.assert_allclose(total.total, np.sum(expected), rtol=1e-4)
    summary = PeakSignalToNoiseRatio().summary(total, ABOUT)
    np.testing.assert_allclose(summary["psnr"], np.mean(expected), rtol=1e-4)


def test_pooled_ratio_is_that_of_all_images_as_one():
    images, targets = pictures(5)
    metric = PooledPeakSignalToNoiseRatio()
    pooled = metric.summary(sums(metric, images, targets), ABOUT)["psnr_pooled"]
    expected = peak_signal_noise_ratio(targets, images, data_range=2)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    assert pooled < np.mean(by_scikit_image(images, targets)) - 0.1


def test_pooled_ratio_of_exact_copies_is_finite():
    images, _ = pictures(2)
    metric = PooledPeakSignalToNoiseRatio()
    assert metric.summary(sums(metric, images, images), ABOUT) == {"psnr_pooled": 100}
