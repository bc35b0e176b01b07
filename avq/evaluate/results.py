"""Results of an evaluation: measures over all images, and numbers of every single one."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int64, UInt8, UInt32

from avq.evaluate.metrics import Value


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        measures: the number of images `n`, and the values of all metrics, by key.
        per_image: numbers of every readable image, by the key whose value is their mean.
        rows: of these images in their `ImageSet`, ascending.
        fingerprints: of their pixels as they were measured, see `fingerprint`.
    """

    measures: dict[str, Value]
    per_image: dict[str, Float32[np.ndarray, "n"]]
    rows: Int64[np.ndarray, "n"]
    fingerprints: UInt32[np.ndarray, "n"]


def fingerprint(images: UInt8[Array, "b h w c"]) -> UInt32[Array, "b"]:
    """Hash of the pixels of each image: their sum, modulo 2^32, weighted by a hash of their place.
    Tells images apart; no protection against those who would forge one.
    """
    pixels = images.reshape(len(images), -1).astype(jnp.uint32)
    place = jnp.arange(pixels.shape[1], dtype=jnp.uint32) * jnp.uint32(0x9E3779B1)
    weights = (place ^ (place >> 15)) * jnp.uint32(0x85EBCA77)
    return jnp.sum((pixels + 1) * (weights | 1)[None], axis=1, dtype=jnp.uint32)
