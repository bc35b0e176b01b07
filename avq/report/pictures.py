"""Pictures of a report: maps of errors, codes and attention, and how a page holds them."""

import base64
import colorsys
import io

import numpy as np
from jaxtyping import Float, Int, UInt8

from avq.data.channels import displayed, to_pil
from avq.pixels import heat

ERROR_RANGE = 64  # of 255 levels; larger errors are as bright
SMALL = 128  # side up to which a picture is kept to the bit, and shown with its pixels
FRAME = (80, 255, 255)  # colour, of the pixel that attends
GOLDEN = 0.6180339887498949  # turns of hue between codes: neighbours differ most


def data_uri(pixels: UInt8[np.ndarray, "h w c"]) -> str:
    """A picture as the eye sees it, as a `data:` URI: PNG up to 128 pixels, else JPEG."""
    kind, options = ("jpeg", {"quality": 90}) if max(pixels.shape) > SMALL else ("png", {})
    file = io.BytesIO()
    to_pil(displayed(pixels)).save(file, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def error_map(
    image: UInt8[np.ndarray, "h w c"], reconstruction: UInt8[np.ndarray, "h w c"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Absolute error, mean over channels: black is none, the brightest 64 of 255 levels or more."""
    error = np.abs(image.astype(np.float32) - reconstruction).mean(-1)
    return heat(error / ERROR_RANGE)


def code_colours(k: int) -> UInt8[np.ndarray, "k 3"]:
    """A colour for each of `k` codes, the same in every picture."""
    colours = [
        colorsys.hls_to_rgb(i * GOLDEN % 1, 0.35 + 0.3 * (i % 3) / 2, 0.55 + 0.35 * (i % 2))
        for i in range(k)
    ]
    return np.round(255 * np.array(colours)).astype(np.uint8)


def attention_picture(
    image: UInt8[np.ndarray, "s s c"],
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
    side = len(image) * max(1, -(-256 // len(image)))  # room for the frame
    cell_h, cell_w = side // h, side // w

    def enlarged(values: np.ndarray) -> np.ndarray:
        """Repeats rows and columns of a square to `side`."""
        return np.kron(values, np.ones((side // values.shape[0], side // values.shape[1])))

    grey = enlarged(displayed(image).mean(-1))[..., None]
    shares = enlarged(weights / max(weights.max(), 1e-12))
    colours, shares = heat(shares), shares[..., None]
    blended = grey * (0.45 - 0.25 * shares) + colours * (0.15 + 0.6 * shares)
    top, left = int(place[0] * h) * cell_h, int(place[1] * w) * cell_w
    box, line = blended[top : top + cell_h, left : left + cell_w], max(1, cell_h // 4)
    for edge in (box[:line], box[-line:], box[:, :line], box[:, -line:]):
        edge[:] = FRAME
    return np.clip(blended, 0, 255).astype(np.uint8)


def code_map(codes: Int[np.ndarray, "h w"], k: int) -> UInt8[np.ndarray, "h w 3"]:
    """A grid of codes, each in its colour."""
    return np.asarray(code_colours(k)[codes])
