"""Decodes image files, and encodes records."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from avq.data.channels import from_pil, to_pil

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# Only these are decoded: other formats of Pillow start programs or follow paths.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn
# A comment or colour profile of a PNG file may take, unpacked, what all of them together may: the
# picture beside it is whole. Pillow's own limit, for programs that show comments, is a 64th of it.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WHITE, WHITE_OF_12_BITS = 65535, 4095
_LITTLE = sys.byteorder == "little"
# Pillow keeps the high byte of a 16-bit colour channel. Read in the other byte order, the same file
# gives the low one.
OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if _LITTLE else "L"}
WIDE_COLOURS = ("RGB", "RGBX", "RGBA", "CMYK")


class UnreadableImage(Exception):
    """Raised for bytes that cannot be decoded to an image; the message is the reason."""


def decode(
    data: bytes, white_level: int = 0, channels: int = 3
) -> UInt8[np.ndarray, "h w {channels}"]:
    """Decodes an image file, turned upright by its EXIF orientation.

    More than eight bits a channel become eight; an animation gives its first picture. Colour
    profiles are not applied.

    Args:
        data: the file.
        white_level: value that becomes 255 in images of more than eight bits a channel; 0 takes the
            largest of the file's type, 65,535 (4,095 for 12 bits).
        channels: of the result, 1, 3 or 4, see `avq.data.channels`.

    Raises:
        UnreadableImage: when the bytes are empty, damaged, no image of a format in `FORMATS`, of
            floating-point pixels, or of more than `MAX_PIXELS` (a decompression bomb).
    """
    with _reasons(data):
        image, raw_mode = _load(data)
        if _is_wide(image.mode, raw_mode):
            image = _to_eight_bits(
                image, _wide_values(data, image, raw_mode), raw_mode, white_level
            )
        return _pixels(image, channels)


def pixels_of(
    image: Image.Image, white_level: int = 0, channels: int = 3
) -> UInt8[np.ndarray, "h w {channels}"]:
    """Pixels of a Pillow image; arguments of `decode`.

    Raises:
        UnreadableImage: for floating-point pixels, and for more than 16 bits.
    """
    if _is_wide(image.mode, ""):
        values = np.asarray(image).astype(np.int32)[..., None]
        image = _to_eight_bits(image, values, image.mode, white_level)
    return _pixels(image, channels)


def used_range(data: bytes) -> float | None:
    """Largest value of an image of more than eight bits a channel, as a share of the largest of its
    type; None for any other image.

    Raises:
        UnreadableImage: as `decode`.
    """
    with _reasons(data):
        with _opened(data) as header:
            if not _is_wide(header.mode, _raw_mode(header)):
                return None
        image, raw_mode = _load(data)
        colours = _wide_values(data, image, raw_mode)[..., :3]
        return float(colours.max()) / _white(raw_mode)


def encode(image: UInt8[np.ndarray, "h w c"], name: str) -> bytes:
    """Encodes an image as an uncompressed, lossless file with its name in a comment: PGM, PPM, or
    PNG where it has alpha.
    """
    (h, w, channels), comment = image.shape, name.encode("unicode_escape")
    if channels == 4:
        file, about = io.BytesIO(), PngImagePlugin.PngInfo()
        about.add_text("Comment", comment)
        to_pil(image).save(file, "png", compress_level=0, pnginfo=about)
        return file.getvalue()
    kind = b"P5" if channels == 1 else b"P6"
    return b"%b\n# %b\n%d %d\n255\n" % (kind, comment, w, h) + image.tobytes()


@contextmanager
def _reasons(data: bytes) -> Iterator[None]:
    """Turns whatever Pillow's decoders raise into an `UnreadableImage`."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no known image format" if unknown else " ".join(str(error).split())
        raise UnreadableImage(f"{len(data)} bytes: {reason or type(error).__name__}") from error


def _opened(data: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(f"{image.width}x{image.height} pixels are too many")
    return image


def _load(data: bytes, raw_mode: str = "") -> tuple[Image.Image, str]:
    """An image, upright, and Pillow's name for the layout of its pixels in the file, which
    `raw_mode` replaces.
    """
    with _opened(data) as image:
        if raw_mode:
            image.tile = [tile._replace(args=_renamed(tile.args, raw_mode)) for tile in image.tile]
        layout = _raw_mode(image)
        image.load()  # turns a TIFF file, and takes its tag away
        return _upright(image), layout


def _raw_mode(image: ImageFile.ImageFile) -> str:
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _renamed(arguments: Any, raw_mode: str) -> Any:
    return (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata beside a whole picture
        return image
    transposition = UPRIGHT.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _is_wide(mode: str, raw_mode: str) -> bool:
    colours, _, bits = raw_mode.partition(";16")
    is_colour = colours in WIDE_COLOURS and bits in OTHER_BYTE
    return mode.startswith("I") or is_colour or raw_mode == "LA;16B"


def _white(raw_mode: str) -> int:
    return WHITE_OF_12_BITS if raw_mode == "I;12" else WHITE


def _wide_values(data: bytes, image: Image.Image, raw_mode: str) -> Int[np.ndarray, "h w c"]:
    """Values of a wide image, before anything is rounded."""
    values: Int[np.ndarray, ...] = np.asarray(image).astype(np.int32)
    if image.mode.startswith("I"):
        return values[..., None]
    if raw_mode == "LA;16B":  # its four bytes a pixel, as they are
        four, _ = _load(data, "RGBA")
        grey, alpha = np.moveaxis(np.array(four).view(">u2").astype(np.int32), -1, 0)
        return np.stack([grey, grey, grey, alpha], axis=-1)
    low, _ = _load(data, raw_mode[:-1] + OTHER_BYTE[raw_mode[-1]])
    values *= 256
    values += np.asarray(low)
    return values


def _to_eight_bits(
    image: Image.Image, values: Int[np.ndarray, "h w c"], raw_mode: str, white_level: int
) -> Image.Image:
    """A wide image with eight bits a channel."""
    if values.min() < 0 or (not white_level and values.max() > WHITE):
        raise UnreadableImage("pixels of more than 16 bits. Set data.white_level")
    white = white_level or _white(raw_mode)
    narrow = np.round(np.clip(values, 0, white) * np.float32(255 / white)).astype(np.uint8)
    if image.mode == "RGBA":
        narrow[..., 3] = np.round(values[..., 3] / 257)
    mode = "L" if image.mode.startswith("I") else image.mode
    result = Image.frombytes(mode, image.size, narrow.tobytes())
    if "transparency" in image.info:
        hidden = np.all(values == image.info["transparency"], axis=-1)
        result.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return result


def _pixels(image: Image.Image, channels: int) -> UInt8[np.ndarray, "h w {channels}"]:
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels")
    return from_pil(image, channels)
