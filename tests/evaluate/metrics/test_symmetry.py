"""Left/right symmetry and colours of eyes."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq.evaluate.metrics.symmetry import ALIGNED, EyeColour, Symmetry

from .metric_helpers import pictures


def symmetry(images, targets):
    return np.asarray(Symmetry().per_image(jnp.asarray(images), jnp.asarray(targets)))


def test_symmetry_compares_the_differences_of_left_and_right():
    images, targets = pictures(4)
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        made, true = (x - np.fliplr(x) for x in (image, target))
        expected = np.abs(made - true).mean()
        np.testing.assert_allclose(symmetry(images, targets)[i], expected, rtol=1e-5)


def test_copies_and_errors_alike_on_both_sides_have_no_error_of_symmetry():
    images, targets = pictures(2)
    np.testing.assert_array_equal(symmetry(targets, targets), 0)
    noise = images - targets
    both = targets + noise + noise[:, :, ::-1]
    np.testing.assert_allclose(symmetry(both, targets), 0, atol=1e-6)


def test_asymmetry_that_is_lost_counts_like_one_that_is_added():
    _, targets = pictures(2)
    mean = (targets + targets[:, :, ::-1]) / 2  # symmetric
    lost, added = symmetry(mean, targets), symmetry(targets, mean)
    np.testing.assert_allclose(lost, added, rtol=1e-6)
    difference = np.abs(targets - targets[:, :, ::-1]).mean((1, 2, 3))
    np.testing.assert_allclose(lost, difference, rtol=1e-5)


def test_independent_errors_give_root_two_times_the_mean_absolute_error():
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 64, 64, 3)).astype(np.float32)
    ratio = symmetry(noise, 0 * noise) / np.abs(noise).mean()
    np.testing.assert_allclose(ratio, 2**0.5, rtol=0.02)


def face(left, right, size=89):
    """A grey square with discs of two colours where aligned CelebA has the eyes: at (69, 111) and
    (108, 111) of 178x218 pixels, whose centre square begins at row 20.
    """
    y, x = np.mgrid[:size, :size] * 178 / size
    image = np.zeros((size, size, 3), np.float32)
    for (column, row), colour in zip(((69, 91), (108, 91)), (left, right), strict=True):
        image[np.hypot(x - column, y - row) < 16] = colour
    return jnp.asarray(image[None])


BLUE, BROWN = np.array([-0.5, 0.0, 0.5]), np.array([0.2, -0.1, -0.4])


@pytest.mark.parametrize("size", [32, 64, 89])
def test_eye_colour_is_the_error_of_the_difference_of_both_eyes(size):
    metric = EyeColour(ALIGNED["celeba"])
    odd, same = face(BLUE, BROWN, size), face(BROWN, BROWN, size)
    expected = np.abs(BLUE - BROWN).mean()
    np.testing.assert_allclose(metric.per_image(same, odd), expected, rtol=0.03)
    np.testing.assert_allclose(metric.per_image(odd, same), expected, rtol=0.03)
    np.testing.assert_allclose(metric.per_image(face(BLUE, BLUE, size), same), 0, atol=0.01)
    np.testing.assert_array_equal(metric.per_image(odd, odd), 0)
