"""Codes of an image to bytes and back without prediction, each in as many bits as its codebook asks
for. What nothing predicts, such as noise, takes fewer bytes so.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from avq.errors import InputError

Grid = Int[np.ndarray, "_h _w"]
Shapes = Sequence[tuple[int, ...]]


def plain_length(shapes: Shapes, sizes: Sequence[int]) -> int:
    """Bytes of codes in grids of such shapes, of codebooks of such sizes."""
    return -(-sum(_lengths(shapes, sizes)) // 8)


def plain_bytes(grids: Sequence[Grid], sizes: Sequence[int]) -> bytes:
    """Bytes of codes: grid after grid, rows from the top, highest bits first.

    Args:
        grids: of an image.
        sizes: of their codebooks.
    """
    bits = [
        (grid.reshape(-1, 1) >> _places(size) & 1).astype(bool).reshape(-1)
        for grid, size in zip(grids, sizes, strict=True)
    ]
    return np.packbits(np.concatenate(bits)).tobytes()


def plain_codes(data: bytes, shapes: Shapes, sizes: Sequence[int]) -> tuple[Grid, ...]:
    """Codes of `plain_bytes`.

    Args:
        data: the bytes.
        shapes: of the grids.
        sizes: of their codebooks.

    Raises:
        InputError: for bytes that are not those of such codes.
    """
    if len(data) != plain_length(shapes, sizes):
        raise InputError("it has more or fewer codes than its size asks for")
    bits, grids = np.unpackbits(np.frombuffer(data, np.uint8)), []
    ends = np.cumsum(_lengths(shapes, sizes))
    for own, shape, size in zip(np.split(bits, ends), shapes, sizes, strict=False):
        places = _places(size)
        codes = own.reshape(*shape, len(places)) @ (1 << places)
        if codes.max(initial=0) >= size:
            raise InputError("the codes are damaged")
        grids.append(codes)
    return tuple(grids)


def _lengths(shapes: Shapes, sizes: Sequence[int]) -> list[int]:
    """Bits of each grid."""
    return [
        int(np.prod(shape)) * len(_places(size)) for shape, size in zip(shapes, sizes, strict=True)
    ]


def _places(size: int) -> Int[np.ndarray, "_n"]:
    """Places of the bits of a code, highest first; one at least."""
    return np.arange(max(1, (size - 1).bit_length()), dtype=np.int32)[::-1]
