"""What a tokenizer takes as images: arrays, PIL images and files."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from avq.data.images import UnreadableImage, decode
from avq.errors import InputError


def opened(image: Any) -> Any:
    """Pixels of a file; anything else as it is.

    Raises:
        InputError: for a file that is no image.
    """
    if not isinstance(image, str | Path):
        return image
    try:
        return decode(Path(image).read_bytes())
    except OSError as error:
        raise InputError(f"{str(image)!r} cannot be read ({error.strerror}).") from error
    except UnreadableImage as error:
        raise InputError(f"{str(image)!r} is no image that can be read: {error}.") from error


def as_batch(images: Any) -> np.ndarray:
    """Images as a batch `[b, h, w, 3]` of bytes or floats.

    Raises:
        InputError: for another type or shape.
    """
    batch = np.asarray(opened(images))
    batch = batch[None] if batch.ndim == 3 else batch
    shape = batch.shape
    wanted = "give [b, h, w, 3]."
    if len(shape) == 4 and shape[3] != 3:
        kinds = {1: "grey", 4: "RGBA"}
        kind = "channels first" if shape[1] in (1, 3, 4) else kinds.get(shape[3], "no RGB images")
        raise InputError(f"images are {shape}, {kind}; {wanted}")
    if len(shape) != 4 or not all(shape[1:3]):
        grey = ", grey" if len(shape) == 2 else ""
        raise InputError(f"images are {shape}{grey}; {wanted}")
    if batch.dtype != np.uint8 and not jnp.issubdtype(batch.dtype, jnp.floating):
        raise InputError(f"images are {batch.dtype}; give uint8, or floats in [-1, 1].")
    return batch


def as_picture(image: Any) -> np.ndarray:
    """One image as `[h, w, 3]`.

    Raises:
        InputError: for another type or shape.
    """
    batch = as_batch(image)
    if len(batch) != 1:
        raise InputError(f"{len(batch)} images given in place of one; give [h, w, 3].")
    picture: np.ndarray = batch[0]
    return picture
