"""Inpainting by codes, without a prior."""

import numpy as np
from jaxtyping import Bool, UInt8

from avq.apply.restore.harmonic import HarmonicFill
from avq.apply.tiles import reflected
from avq.apply.tokenizer import Codes, Tokenizer
from avq.errors import InputError
from avq.pixels import to_float, to_uint8

ROUNDS = 8


def inpaint(
    tokenizer: Tokenizer, image: UInt8[np.ndarray, "h w c"], hole: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "h w c"]:
    """Fills a hole of an image; the pixels around it stay as they are.

    The hole is filled harmonically, and the image encoded and decoded. What was decoded is blended
    into the hole: its difference from the pixels around, continued harmonically, is added. The
    result is encoded again, where only codes of squares that touch the hole may change, until none
    does, or eight times.

    Args:
        tokenizer: of any run.
        image: with any values in the hole.
        hole: true for pixels to fill.

    Raises:
        InputError: for a hole of another size than the image, of all of it, or of nothing.

    Reference: Perez, Gangnet and Blake (2003), "Poisson image editing", for the blending.
    """
    size = height, width = image.shape[:2]
    if hole.shape != size:
        mask = f"{hole.shape[1]}x{hole.shape[0]}"
        raise InputError(
            f"the mask has {mask} pixels and the image {width}x{height}. Give one of its size."
        )
    if not hole.any():
        raise InputError("the mask has no white pixels, so there is nothing to fill.")
    known, fill = to_float(image), HarmonicFill(hole)
    filled = to_uint8(fill(known))
    (first,) = tokenizer.encode_each([filled])
    touched = _touched(hole, first, tokenizer.cells)
    codes = first
    for _ in range(ROUNDS):
        (pixels,) = tokenizer.decode_each([codes], [size])
        decoded = to_float(pixels)
        blended = to_uint8(decoded + fill(known - decoded))
        filled = np.where(hole[..., None], blended, image)
        (grids,) = tokenizer.encode_each([filled])
        new = tuple(map(np.where, touched, grids, first))
        if all(map(np.array_equal, new, codes)):
            break
        codes = new
    return filled


def _touched(
    hole: Bool[np.ndarray, "h w"], codes: Codes, cells: tuple[int, ...]
) -> list[Bool[np.ndarray, "_h _w"]]:
    """By level, whether the square of a code touches the hole."""
    touched: list[Bool[np.ndarray, "_h _w"]] = []
    for (h, w), cell in zip((grid.shape for grid in codes), cells, strict=True):
        whole = reflected(hole.astype(np.uint8), h * cell, w * cell)
        touched.append(np.asarray(whole.reshape(h, cell, w, cell).any((1, 3))))
    return touched
