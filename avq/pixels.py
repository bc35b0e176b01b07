"""Conversion of pixels between files (0..255) and models ([-1, 1]) and between numbers of channels,
of NumPy and of JAX alike, and colours of values.
"""

from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float, Num, UInt8

Pixels = TypeVar("Pixels", jax.Array, np.ndarray)
LUMA = tuple(weight / 65536 for weight in (19595, 38470, 7471))  # ITU-R BT.601, as Pillow rounds it


def to_float(images: UInt8[Pixels, "*b h w c"]) -> Float[Pixels, "*b h w c"]:
    """0..255 to [-1, 1], float32."""
    return images.astype(np.float32) / 127.5 - 1


def to_uint8(images: Float[Pixels, "*b h w c"]) -> UInt8[Pixels, "*b h w c"]:
    """[-1, 1], clipped, to the nearest of 0..255."""
    return ((images.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def as_channels(images: Num[Pixels, "*b h w _"], channels: int) -> Num[Pixels, "*b h w {channels}"]:
    """Images of 1, 3 or 4 channels as ones of another number, by the rule of `avq.data.channels`;
    of floats in [-1, 1] it can be differentiated.
    """
    own = images.shape[-1]
    if own == channels:
        return images
    if images.dtype == np.uint8:
        return to_uint8(as_channels(to_float(images), channels))
    xp: Any = images.__array_namespace__()
    if own == 4:
        share = (images[..., 3:] + 1) / 2
        images = images[..., :3] * share + (1 - share)
    if channels == 1:
        luma: Pixels = images[..., :3] @ xp.asarray(LUMA, images.dtype)
        return luma[..., None]
    if own == 1:
        images = xp.repeat(images, 3, axis=-1)
    if channels == 4:
        images = xp.concat([images, xp.ones_like(images[..., :1])], axis=-1)
    return images


def heat(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours of values in [0, 1], clipped, from black to bright."""
    import matplotlib

    colours = np.asarray(matplotlib.colormaps["inferno"](np.clip(values, 0, 1), bytes=True))
    return colours[..., :3]
