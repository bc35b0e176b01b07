"""Inpainting by codes: those of what surrounds the hole, or drawn from a prior."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from avq.apply.completion import Completion, require_size
from avq.apply.restore.harmonic import HarmonicFill
from avq.apply.tiles import reflected
from avq.apply.tokenizer import Codes, Tokenizer
from avq.errors import InputError
from avq.models.prior.places import UNKNOWN
from avq.pixels import to_float, to_uint8

ROUNDS = 8
CANDIDATES = 16  # completions that one is taken of


def inpaint(
    tokenizer: Tokenizer, image: UInt8[np.ndarray, "h w 3"], hole: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "h w 3"]:
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
    size = image.shape[:2]
    _require_hole(hole, size)
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


def inpaint_by_prior(
    completion: Completion,
    image: UInt8[np.ndarray, "h w 3"],
    hole: Bool[np.ndarray, "H W"],
    seed: int = 0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Fills a hole of an image by codes that a prior draws; the pixels around it stay as they are.

    The hole is filled harmonically, and the image encoded. Codes of squares that touch the hole are
    drawn, on every level, given all others; what they decode to is blended into the hole as by
    `inpaint`. A prior that draws one code after another sees only those before; of sixteen drawn
    completions one is taken, by how likely it makes the known codes that come later.

    Args:
        completion: of the prior.
        image: of the prior's size, with any values in the hole.
        hole: true for pixels to fill.
        seed: of the codes.

    Raises:
        InputError: for an image of another size, and a hole that `inpaint` refuses.

    Reference: Rubin (1987), sampling importance resampling.
    """
    size, tokenizer = image.shape[:2], completion.prior.tokenizer
    require_size(completion.prior, size)
    _require_hole(hole, size)
    known, fill = to_float(image), HarmonicFill(hole)
    (codes,) = tokenizer.encode_each([to_uint8(fill(known))])
    touched = _touched(hole, codes, tokenizer.cells)
    (pixels,) = tokenizer.decode(completed(completion, codes, touched, seed))
    decoded = to_float(pixels)
    return np.where(hole[..., None], to_uint8(decoded + fill(known - decoded)), image)


def completed(
    completion: Completion, codes: Codes, missing: Sequence[Bool[np.ndarray, "_h _w"]], seed: int
) -> Codes:
    """Codes of one image, `[1, h, w]` a level, with the missing ones drawn given the others.

    Args:
        completion: of a prior.
        codes: grids `[h, w]`, finest level first.
        missing: by level, true for codes to draw.
        seed: of the codes.
    """
    prior, count = completion.prior, CANDIDATES if completion.prior.module.exact else 1
    pairs = zip(missing, codes, strict=True)
    start = tuple(np.stack([np.where(gone, UNKNOWN, grid)] * count) for gone, grid in pairs)
    drawn = completion(start, seed)
    if count == 1:
        return drawn
    bits = zip(prior.bits(drawn), missing, strict=True)
    of_known = np.sum([(level * ~gone).sum((1, 2)) for level, gone in bits], axis=0)
    chances = np.exp2(of_known.min() - of_known)
    chosen = np.random.default_rng(seed).choice(count, p=chances / chances.sum())
    return tuple(level[chosen, None] for level in drawn)


def _require_hole(hole: Bool[np.ndarray, "H W"], size: tuple[int, ...]) -> None:
    """Refuses a mask of another size, or without a hole."""
    if hole.shape != size:
        mask, image = (f"{width}x{height}" for height, width in (hole.shape, size))
        raise InputError(f"the mask has {mask} pixels and the image {image}. Give one of its size.")
    if not hole.any():
        raise InputError("the mask has no white pixels, so there is nothing to fill.")


def _touched(
    hole: Bool[np.ndarray, "h w"], codes: Codes, cells: tuple[int, ...]
) -> list[Bool[np.ndarray, "_h _w"]]:
    """By level, whether the square of a code touches the hole."""
    touched: list[Bool[np.ndarray, "_h _w"]] = []
    for (h, w), cell in zip((grid.shape for grid in codes), cells, strict=True):
        whole = reflected(hole.astype(np.uint8), h * cell, w * cell)
        touched.append(np.asarray(whole.reshape(h, cell, w, cell).any((1, 3))))
    return touched
