"""Reconstruction losses: distances between output and target images."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.models.vqvae import Reconstruction


def mean_absolute_error(
    *, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
) -> Float[Array, ""]:
    """Mean of `|images - targets|` over pixels and channels."""
    return jnp.mean(jnp.abs(images.astype(jnp.float32) - targets.astype(jnp.float32)))


def mae_over_var(
    outputs: Reconstruction, targets: Float[Array, "b h w c"], frozen: Mapping[str, Any]
) -> Float[Array, ""]:
    """Mean absolute error over the variance of the training pixels.

    Args:
        outputs: of the autoencoder for `targets`.
        targets: images in [-1, 1].
        frozen: with 'pixel_variance', of the training pixels in [-1, 1].

    Reference: MAE/sigma of Rivera and Hoyos (2023).
    """
    variance: Array | float = frozen["pixel_variance"]
    return mean_absolute_error(images=outputs.images, targets=targets) / variance


def mse_over_var(
    outputs: Reconstruction, targets: Float[Array, "b h w c"], frozen: Mapping[str, Any]
) -> Float[Array, ""]:
    """Mean squared error over the variance of the training pixels; arguments of `mae_over_var`."""
    variance: Array | float = frozen["pixel_variance"]
    errors = outputs.images.astype(jnp.float32) - targets.astype(jnp.float32)
    return jnp.mean(errors**2) / variance
