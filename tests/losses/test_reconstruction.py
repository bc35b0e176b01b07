"""Reconstruction losses against numpy."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from avq.losses import TERMS
from avq.losses.reconstruction import mean_absolute_error
from avq.models.vqvae import Reconstruction


def test_mean_absolute_error_is_numpys():
    images, targets = np.random.default_rng(0).uniform(-1, 1, (2, 2, 3, 5, 3)).astype(np.float32)
    actual = jax.jit(mean_absolute_error)(images=jnp.asarray(images), targets=jnp.asarray(targets))
    expected = np.mean(np.abs(images.astype(np.float64) - targets)).astype(np.float32)
    chex.assert_shape(actual, ())
    chex.assert_trees_all_close(actual, expected, rtol=1e-6)


def test_mean_absolute_error_of_bfloat16_images_is_taken_in_float32():
    images = jnp.full((1, 16, 64, 3), 0.5, jnp.bfloat16)
    targets = images + jnp.bfloat16(2**-8)
    actual = jax.jit(mean_absolute_error)(images=images, targets=targets)
    chex.assert_type(actual, jnp.float32)
    chex.assert_trees_all_close(actual, jnp.float32(2**-8), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (1, 4, 4, 3), (2, 4, 3)])
def test_shape_mismatch_is_refused(shape):
    with pytest.raises(jaxtyping.TypeCheckError):
        jax.jit(mean_absolute_error)(images=jnp.zeros((2, 4, 4, 3)), targets=jnp.zeros(shape))


def test_term_is_the_mean_absolute_error_over_the_variance_of_training_pixels():
    images, targets = np.random.default_rng(0).uniform(-1, 1, (2, 2, 3, 5, 3)).astype(np.float32)
    outputs = Reconstruction(jnp.asarray(images), ())
    frozen = {"pixel_variance": jnp.float32(0.25)}
    actual = jax.jit(TERMS["mae_over_var"])(outputs, jnp.asarray(targets), frozen)
    expected = np.mean(np.abs(images.astype(np.float64) - targets)) / 0.25
    chex.assert_shape(actual, ())
    chex.assert_trees_all_close(actual, np.float32(expected), rtol=1e-6)
