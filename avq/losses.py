"""Losses: pure functions of arrays, float32, each the mean over what it is given."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Adversarial = Literal["non_saturating", "hinge", "least_squares"]


def mean_absolute_error(
    *, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
) -> Float[Array, ""]:
    """Mean of `|images - targets|` over pixels and channels."""
    return jnp.mean(jnp.abs(images.astype(jnp.float32) - targets.astype(jnp.float32)))


def generator_loss(
    *, fake_logits: Float[Array, "b h w 1"], kind: Adversarial = "non_saturating"
) -> Float[Array, ""]:
    """How far the discriminator is from taking generated patches for real ones.

    - 'non_saturating': `-log sigmoid(fake)` (Goodfellow et al., 2014), cross-entropy against ones.
    - 'hinge': `-fake` (Lim and Ye, 2017).
    - 'least_squares': `(fake - 1)^2` (Mao et al., 2017).

    Raises:
        ValueError: for any other `kind`.
    """
    if kind == "non_saturating":
        return jnp.mean(jax.nn.softplus(-fake_logits))
    if kind == "hinge":
        return -jnp.mean(fake_logits)
    if kind == "least_squares":
        return jnp.mean((fake_logits - 1) ** 2)
    raise ValueError(
        f"adversarial loss {kind!r} is not one of non_saturating, hinge, least_squares"
    )


def discriminator_loss(
    *,
    real_logits: Float[Array, "b h w 1"],
    fake_logits: Float[Array, "b h w 1"],
    kind: Adversarial = "non_saturating",
) -> Float[Array, ""]:
    """How badly real patches are told from generated ones: the sum of the two halves (not their
    mean).

    - 'non_saturating': cross-entropy of real against ones and of fake against zeros.
    - 'hinge': `max(0, 1 - real) + max(0, 1 + fake)`.
    - 'least_squares': `(real - 1)^2 + fake^2`.

    Raises:
        ValueError: for any other `kind`.
    """
    if kind == "non_saturating":
        return jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits))
    if kind == "hinge":
        return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))
    if kind == "least_squares":
        return jnp.mean((real_logits - 1) ** 2) + jnp.mean(fake_logits**2)
    raise ValueError(
        f"adversarial loss {kind!r} is not one of non_saturating, hinge, least_squares"
    )
