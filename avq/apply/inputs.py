"""What a tokenizer takes as images: arrays, PIL images and files."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from avq.data.channels import MODES
from avq.data.images import UnreadableImage, decode, pixels_of
from avq.data.settings import Data
from avq.errors import InputError
from avq.pixels import as_channels

USUAL = Data()


def opened(image: Any, data: Data = USUAL) -> Any:
    """Pixels of a file or a PIL image; anything else as it is.

    Args:
        image: to open.
        data: settings of the model's images, for `white_level` and `channels`.

    Raises:
        InputError: for a file that is no image.
    """
    if not isinstance(image, str | Path | Image.Image):
        return image
    name = "the PIL image" if isinstance(image, Image.Image) else repr(str(image))
    try:
        if isinstance(image, Image.Image):
            return pixels_of(image, data.white_level, data.channels)
        return decode(Path(image).read_bytes(), data.white_level, data.channels)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error}).") from error
    except UnreadableImage as error:
        raise InputError(f"{name} is no image that can be read: {error}.") from error


def as_batch(images: Any, data: Data = USUAL) -> np.ndarray:
    """Images as a batch `[b, h, w, channels]` of bytes or floats.

    Two axes are a grey image. Three are one image `[h, w, c]` where the last is up to 4 long, else
    grey images `[b, h, w]`. Other channels than the model's become those by the rule of
    `avq.data.channels`.

    Args:
        images: to take.
        data: as for `opened`.

    Raises:
        InputError: for another type or shape.
    """
    batch = given = np.asarray(opened(images, data))
    if batch.ndim == 2 or (batch.ndim == 3 and batch.shape[2] > max(MODES)):
        batch = batch[..., None]
    batch = batch[None] if batch.ndim == 3 else batch
    shape = batch.shape
    if len(shape) != 4 or shape[3] not in MODES or not all(shape[1:3]):
        first = ", channels first" if len(shape) == 4 and shape[1] in MODES else ""
        raise InputError(
            f"images are {given.shape}{first}; give [b, h, w, c] of 1, 3 or 4 channels, or "
            "[b, h, w] of grey ones."
        )
    if batch.dtype != np.uint8 and not jnp.issubdtype(batch.dtype, jnp.floating):
        raise InputError(f"images are {batch.dtype}; give uint8, or floats in [-1, 1].")
    return as_channels(batch, data.channels)


def as_picture(image: Any, data: Data = USUAL) -> np.ndarray:
    """One image as `[h, w, channels]`; arguments of `as_batch`.

    Raises:
        InputError: for another type or shape.
    """
    batch = as_batch(image, data)
    if len(batch) != 1:
        raise InputError(f"{len(batch)} images given in place of one; give [h, w, c].")
    picture: np.ndarray = batch[0]
    return picture
