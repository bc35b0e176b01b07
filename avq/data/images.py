"""From the bytes of a file to a square RGB image, and random views of it."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# Those whose decoders are sought: Pillow knows others that start programs or follow paths.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn
MAX_ZOOM = 4  # a random crop is at most this many times as wide as the image made of it

_turn = Image.Transpose
UPRIGHT = {  # by EXIF orientation
    2: _turn.FLIP_LEFT_RIGHT,
    3: _turn.ROTATE_180,
    4: _turn.FLIP_TOP_BOTTOM,
    5: _turn.TRANSPOSE,
    6: _turn.ROTATE_270,
    7: _turn.TRANSVERSE,
    8: _turn.ROTATE_90,
}


class UnreadableImage(Exception):
    """The bytes are no image that can be decoded; the message is the reason."""


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image, upright as its EXIF orientation says, from the bytes of an image file.

    Sixteen bits a channel become eight, transparent parts white; of an animation it is the first
    picture. Colour profiles are not applied.

    Raises:
        UnreadableImage: when the bytes are empty, damaged, no image of a format in `FORMATS`, of
            floating-point pixels, or of more than `MAX_PIXELS` (a decompression bomb).
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{image.width}x{image.height} pixels are too many")
            return np.asarray(_to_rgb(_upright(image)))
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their format's parser raises
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "no known image format" if unknown else " ".join(str(error).split())
        raise UnreadableImage(f"{len(data)} bytes: {reason or type(error).__name__}") from error


def encode(image: UInt8[np.ndarray, "h w 3"], name: str) -> bytes:
    """The image as a file of plain pixels (PPM), which keeps every value and has nothing to
    decompress; the name stands in it as a comment.
    """
    h, w, _ = image.shape
    comment = name.encode("unicode_escape")
    return b"P6\n# %b\n%d %d\n255\n" % (comment, w, h) + image.tobytes()


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata beside a whole picture
        return image
    turn = UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if np.any((wide < 0) | (wide > 65535)):
            raise UnreadableImage("pixels of more than 16 bits")
        return Image.fromarray((wide / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return image.convert("RGB")


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


def random_crop(
    image: UInt8[np.ndarray, "h w 3"], size: int, rng: np.random.Generator, smallest: float
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A random square whose side is a random share, `smallest` to 1, of the shorter side."""
    h, w, _ = image.shape
    side = max(1, round(min(h, w) * rng.uniform(smallest, 1.0)))
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
    if not rng.integers(2):
        return image
    mirrored = np.empty_like(image)
    for channel in range(3):  # several times as fast as to copy the reversed view at once
        mirrored[:, :, channel] = image[:, ::-1, channel]
    return mirrored


def _resized(image: np.ndarray, top: int, left: int, side: int, size: int) -> np.ndarray:
    crop = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(crop)
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.LANCZOS))
