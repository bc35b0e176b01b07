"""Conversion of pixels between files (0..255) and models ([-1, 1]), of NumPy and of JAX alike, and
colours of values.
"""

from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, UInt8

Pixels = TypeVar("Pixels", jax.Array, np.ndarray)


def to_float(images: UInt8[Pixels, "*b h w c"]) -> Float[Pixels, "*b h w c"]:
    """0..255 to [-1, 1], float32."""
    return images.astype(np.float32) / 127.5 - 1


def to_uint8(images: Float[Pixels, "*b h w c"]) -> UInt8[Pixels, "*b h w c"]:
    """[-1, 1], clipped, to the nearest of 0..255."""
    return ((images.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def heat(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours of values in [0, 1], clipped, from black to bright."""
    import matplotlib

    colours = np.asarray(matplotlib.colormaps["inferno"](np.clip(values, 0, 1), bytes=True))
    return colours[..., :3]
