"""Super-resolution by a model that was trained on images of lower resolution."""

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from avq.apply.inputs import as_picture
from avq.apply.tokenizer import Tokenizer
from avq.data.views import rescaled
from avq.errors import InputError
from avq.pixels import to_float, to_uint8

ROUNDS = 3


def upscale(tokenizer: Tokenizer, images: Iterable[Any]) -> Iterator[UInt8[np.ndarray, "_h _w c"]]:
    """Enlarges images of any sizes by the factor of a run, one after another.

    An image is enlarged by the bicubic filter, encoded and decoded. Unless the run was trained on
    noisy images, the result then gets what it lacks to be the image when it is shrunk again, so
    that the model adds detail alone.

    Args:
        tokenizer: of a run with `data.downscale`, the factor.
        images: each as `Tokenizer.encode` takes one; bytes.

    Raises:
        InputError: for a run without a lower resolution.

    Reference: Irani and Peleg (1991), "Improving resolution by image registration", for the
        back-projection.
    """
    degradation = tokenizer.trained.degradation
    factor = degradation.downscale
    if factor == 1:
        raise InputError(
            f"this run was not trained on a lower resolution (its degradation: {degradation}). "
            "Train one with --config.data.downscale=2."
        )
    encoded, given = tee(as_picture(image, tokenizer.trained.data) for image in images)
    enlarged = (
        rescaled(image, factor * image.shape[0], factor * image.shape[1]) for image in encoded
    )
    return (
        pixels if degradation.noise else back_projected(pixels, image)
        for pixels, image in zip(tokenizer.reconstruct_each(enlarged), given, strict=True)
    )


def back_projected(
    pixels: UInt8[np.ndarray, "H W c"], small: UInt8[np.ndarray, "h w c"]
) -> UInt8[np.ndarray, "H W c"]:
    """Changes an image by smooth amounts until it becomes `small` when it is shrunk."""
    values, wanted = to_float(pixels), to_float(small)
    for _ in range(ROUNDS):
        lacking = wanted - _rescaled(values, *small.shape[:2])
        values = values + _rescaled(lacking, *pixels.shape[:2])
    return to_uint8(values)


def _rescaled(
    values: Float[np.ndarray, "h w c"], height: int, width: int
) -> Float[np.ndarray, "{height} {width} c"]:
    """`avq.data.views.rescaled` of values that are no bytes."""
    planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(values, -1, 0))
    resized = [plane.resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
    return np.stack([np.asarray(plane) for plane in resized], axis=-1)
