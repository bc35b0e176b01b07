"""From the bytes of a file to a square RGB image, and random views of it."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_ZOOM = 4  # a random crop is at most this many times as wide as the image made of it


class UnreadableImage(Exception):
    """The bytes are no image that can be decoded; the message is the reason."""


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image, upright as its EXIF orientation says, from the bytes of an image file.

    Raises:
        UnreadableImage: when the bytes are empty, damaged, no image, or unreasonably many pixels (a
            decompression bomb).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow's decoders raise whatever their format's parser raises
        reason = (
            "no known image format" if isinstance(error, Image.UnidentifiedImageError) else error
        )
        raise UnreadableImage(f"{len(data)} bytes: {reason}") from error


def centre_square(
    image: UInt8[np.ndarray, "h w 3"], size: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The largest centred square, resized to `size` pixels a side."""
    h, w, _ = image.shape
    side = min(h, w)
    return _resized(image, (h - side) // 2, (w - side) // 2, side, size)


def random_square(
    image: UInt8[np.ndarray, "h w 3"], size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A random square of a random scale (log-uniform from 1 to 4 image pixels a pixel, as far as
    the image allows).
    """
    h, w, _ = image.shape
    largest = min(h, w)
    smallest = min(size, largest)
    scale = rng.uniform(0.0, np.log(max(1.0, min(MAX_ZOOM, largest / smallest))))
    side = min(largest, round(smallest * float(np.exp(scale))))
    top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
    return _resized(image, int(top), int(left), side, size)


def random_colours(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image as it is or, half of the time, in other colours: its channels in a random order,
    two of them dimmed by factors of 0.5 to 1, and half of those as a negative. A few photographs
    hold few colours, a grey one none.
    """
    if rng.integers(2):
        return image
    gains = rng.permutation(np.append(rng.uniform(0.5, 1.0, 2), 1.0))
    dimmed = np.round(image[:, :, rng.permutation(3)] * gains).astype(np.uint8)
    return 255 - dimmed if rng.integers(2) else dimmed


def random_flip(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The image or, half of the time, its mirror image."""
    return image[:, ::-1] if rng.integers(2) else image


def _resized(image: np.ndarray, top: int, left: int, side: int, size: int) -> np.ndarray:
    crop = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(crop)
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.LANCZOS))
