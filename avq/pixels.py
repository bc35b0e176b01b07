"""Conversion of pixels between files (0..255) and models ([-1, 1])."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def to_float(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """0..255 to [-1, 1], float32."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_uint8(images: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
    """[-1, 1], clipped, to the nearest of 0..255."""
    return jnp.round((jnp.clip(images, -1, 1) + 1) * 127.5).astype(jnp.uint8)
