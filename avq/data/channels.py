"""Pictures of one channel (grey), three (RGB) or four (RGB with alpha): between Pillow's images
and arrays, and for the eye.

The rule by which a picture gets other channels than its own, everywhere in avq: grey is repeated,
colours become their luma (ITU-R BT.601), transparent parts show white, and what has no alpha is
opaque. `avq.pixels.as_channels` is the same for arrays.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names, by number of channels
SQUARE, LIGHT, DARK = 8, 255, 204  # side and levels of the chequers behind alpha


def to_pil(pixels: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    """A Pillow image of pixels."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def from_pil(image: Image.Image, channels: int) -> UInt8[np.ndarray, "h w {channels}"]:
    """Pixels of a Pillow image of eight bits a channel, in any mode.

    Args:
        image: the picture.
        channels: 1, 3 or 4. Of four, colours that alpha hides are black, as Pillow leaves them when
            it resizes.
    """
    if channels < 4 and image.has_transparency_data:
        four = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", four.size, "white"), four).convert("RGB")
    pixels = np.asarray(image.convert(MODES[channels])).reshape(image.height, image.width, channels)
    return pixels * (pixels[..., 3:] > 0) if channels == 4 else pixels


def displayed(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as RGB for the eye: grey as grey, alpha over chequers."""
    if pixels.shape[-1] < 4:
        return from_pil(to_pil(pixels), 3)
    down, across = (np.arange(side) // SQUARE for side in pixels.shape[:2])
    chequers = np.where((down[:, None] + across) % 2, DARK, LIGHT).astype(np.uint8)
    ground = to_pil(chequers[..., None]).convert("RGBA")
    return from_pil(Image.alpha_composite(ground, to_pil(pixels)), 3)
