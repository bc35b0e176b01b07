"""Pictures of a report: maps of errors, codes and attention, and how a page holds them."""

import base64
import colorsys
import io

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

ERROR_RANGE = 64  # of 255 levels; larger errors are as bright
LOSSLESS = 128  # side up to which a picture is kept to the bit
GOLDEN = 0.6180339887498949  # turns of hue between codes: neighbours differ most


def data_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as a `data:` URI: PNG up to 128 pixels, else JPEG."""
    kind, options = ("jpeg", {"quality": 90}) if max(pixels.shape) > LOSSLESS else ("png", {})
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def error_map(
    image: UInt8[np.ndarray, "h w 3"], reconstruction: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Absolute error, mean over channels: black is none, the brightest 64 of 255 levels or more."""
    error = np.abs(image.astype(np.float32) - reconstruction).mean(-1)
    return _heat(error / ERROR_RANGE)


def code_colours(k: int) -> UInt8[np.ndarray, "k 3"]:
    """A colour for each of `k` codes, the same in every picture."""
    colours = [
        colorsys.hls_to_rgb(i * GOLDEN % 1, 0.35 + 0.3 * (i % 3) / 2, 0.55 + 0.35 * (i % 2))
        for i in range(k)
    ]
    return np.round(255 * np.array(colours)).astype(np.uint8)


def attention_picture(
    image: UInt8[np.ndarray, "s s 3"],
    weights: Float[np.ndarray, "h w"],
    place: tuple[float, float],
) -> UInt8[np.ndarray, "S S 3"]:
    """A row of W over a grey image: the brighter, the more weight, up to the row's largest.

    Args:
        image: the input.
        weights: of the grid's pixels.
        place: of the pixel that attends, down and across, as shares of the sides; it is framed.
    """
    h, w = weights.shape
    scale = max(1, -(-256 // len(image)))
    side = len(image) * scale
    grey = np.repeat(np.repeat(image.mean(-1), scale, 0), scale, 1)[..., None]
    cells = np.repeat(np.repeat(weights / max(weights.max(), 1e-12), side // h, 0), side // w, 1)
    heat = _heat(cells)
    cells = cells[..., None]
    picture = grey * (0.45 - 0.25 * cells) + heat * (0.15 + 0.6 * cells)
    top, left = int(place[0] * h) * (side // h), int(place[1] * w) * (side // w)
    box = picture[top : top + side // h, left : left + side // w]
    for edge in (box[:2], box[-2:], box[:, :2], box[:, -2:]):
        edge[:] = (80, 255, 255)
    return np.clip(picture, 0, 255).astype(np.uint8)


def code_map(codes: Int[np.ndarray, "h w"], k: int) -> UInt8[np.ndarray, "h w 3"]:
    """A grid of codes, each in its colour."""
    return code_colours(k)[codes]


def _heat(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours of values in [0, 1], clipped, from black to bright."""
    import matplotlib

    colours = np.asarray(matplotlib.colormaps["inferno"](np.clip(values, 0, 1), bytes=True))
    return colours[..., :3]
