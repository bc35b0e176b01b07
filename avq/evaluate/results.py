"""Results of an evaluation: measures over all images, numbers of every single one, and how sure the
means of these are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int64, UInt8, UInt32

from avq.errors import InputError
from avq.evaluate.metrics import Value

RESAMPLES = 1000  # of a bootstrap


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


def intervals(per_image: Mapping[str, Float[np.ndarray, "n"]]) -> dict[str, list[float]]:
    """95 % intervals of means over images: how much they would vary with other images of the same
    kind. They say nothing of another seed or another training.

    Percentile bootstrap of 1,000 resamples, the same for all keys. A resample is held alone, so
    that memory does not grow with their number.

    Args:
        per_image: numbers of the images by key.

    Returns:
        Lower and upper end by key. Both are the mean where there is one image.
    """
    values = np.array(list(per_image.values()), np.float64)
    n = values.shape[1]
    rng = np.random.default_rng(0)
    means = [values @ np.bincount(rng.integers(0, n, n), minlength=n) / n for _ in range(RESAMPLES)]
    ends = np.percentile(means, [2.5, 97.5], axis=0)
    return dict(zip(per_image, ends.T.tolist(), strict=True))


class Difference(NamedTuple):
    """Mean difference, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def paired(a: Results, b: Results, key: str) -> Difference:
    """Mean over images of `a - b`, with its interval, see `intervals`. Since each image is compared
    with itself, what makes images easy or hard cancels.

    Args:
        a, b: results on the same images.
        key: of `per_image`.

    Raises:
        InputError: where the images, or their size, are not the same.
    """
    if not np.array_equal(a.fingerprints, b.fingerprints):
        sizes = " and ".join(f"{len(results.rows)}" for results in (a, b))
        raise InputError(
            f"the runs were measured on different images ({sizes} of them). Compare runs of one "
            "data.image_size on one --data and --split."
        )
    difference = a.per_image[key].astype(np.float64) - b.per_image[key]
    (ends,) = intervals({key: difference}).values()
    return Difference(float(difference.mean()), *ends)
