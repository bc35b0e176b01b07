"""Decodes image files to RGB, and encodes records."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# Only these are decoded: other formats of Pillow start programs or follow paths.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn

UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(Exception):
    """Raised for bytes that cannot be decoded to an image; the message is the reason."""


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB, turned upright by its EXIF orientation.

    Sixteen bits a channel become eight, transparent parts white; an animation gives its first
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
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no known image format" if unknown else " ".join(str(error).split())
        raise UnreadableImage(f"{len(data)} bytes: {reason or type(error).__name__}") from error


def encode(image: UInt8[np.ndarray, "h w 3"], name: str) -> bytes:
    """Encodes an image as an uncompressed, lossless file (PPM) with its name in a comment."""
    h, w, _ = image.shape
    comment = name.encode("unicode_escape")
    return b"P6\n# %b\n%d %d\n255\n" % (comment, w, h) + image.tobytes()


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata beside a whole picture
        return image
    transposition = UPRIGHT.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if np.any((wide < 0) | (wide > 65535)):
            raise UnreadableImage("pixels of more than 16 bits")
        return Image.fromarray((wide / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
