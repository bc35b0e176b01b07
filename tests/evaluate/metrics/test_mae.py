"""Mean absolute error against numpy."""

import numpy as np

from avq.evaluate.metrics.mae import MeanAbsoluteError

from .metric_helpers import ABOUT, pictures, sums


def test_sum_is_that_of_the_single_images():
    images, targets = pictures(5)
    total = sums(MeanAbsoluteError(), images, targets)
    assert total.n == 5
    mae = np.abs(images.astype(np.float64) - targets).mean((1, 2, 3)).sum()
    np.testing.assert_allclose(total.total, mae, rtol=1e-5)


def test_summary_divides_by_images_and_by_the_training_pixels():
    images, targets = pictures(4)
    summary = MeanAbsoluteError().summary(sums(MeanAbsoluteError(), images, targets), ABOUT)
    mae = np.abs(images - targets).mean()
    np.testing.assert_allclose(summary["mae"], mae, rtol=1e-5)
    np.testing.assert_allclose(summary["mae_over_std"], mae / 0.5, rtol=1e-5)
    np.testing.assert_allclose(summary["mae_over_var"], mae / 0.25, rtol=1e-5)
