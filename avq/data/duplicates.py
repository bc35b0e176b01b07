"""Perceptual hashes, and the search for near-duplicates across a split."""

import numpy as np
from jaxtyping import Float64, UInt8, UInt64
from PIL import Image

from avq.data.channels import to_pil

SIDE, KEPT = 32, 8
# Hashes that differ in at most three bits agree in at least one of their four 16-bit parts.
MAX_BITS, PARTS = 3, 4


def _cosines() -> Float64[np.ndarray, "KEPT SIDE"]:
    """Lowest frequencies of the discrete cosine transform of SIDE values."""
    places = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    return np.cos(np.arange(1, KEPT + 1)[:, None] * places)


COSINES = _cosines()


def perceptual_hash(image: UInt8[np.ndarray, "h w c"]) -> int:
    """Hashes an image to 64 bits that change little when it is resized, compressed or slightly
    brightened: which of the 8x8 lowest frequencies of its grey 32x32 thumbnail are above their
    median.

    Reference: Zauner (2010), "Implementation and benchmarking of perceptual image hash functions".
    """
    small = to_pil(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    frequencies = COSINES @ np.asarray(small, np.float64) @ COSINES.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def near_duplicates(
    left: UInt64[np.ndarray, "n"], right: UInt64[np.ndarray, "m"]
) -> list[tuple[int, int]]:
    """Finds all pairs of rows whose hashes differ in at most three bits, ascending."""
    pairs: set[tuple[int, int]] = set()
    for part in range(PARTS):
        shift = np.uint64(16 * part)
        keys = (right >> shift) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        wanted = (left >> shift) & np.uint64(0xFFFF)
        first, last = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
        for row in np.flatnonzero(last > first):
            rows = order[first[row] : last[row]]
            close = rows[np.bitwise_count(right[rows] ^ left[row]) <= MAX_BITS]
            pairs.update((int(row), int(other)) for other in close)
    return sorted(pairs)
