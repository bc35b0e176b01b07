"""Codes in whole bits."""

import numpy as np
import pytest

from avq.apply.codec.plain import plain_bytes, plain_codes
from avq.errors import InputError

SIZES, SHAPES = [1024, 5, 1, 2], [(3, 7), (2, 2), (1, 3), (0, 4)]


def grids():
    rng = np.random.default_rng(0)
    return [rng.integers(0, size, shape) for size, shape in zip(SIZES, SHAPES, strict=True)]


def test_codes_come_back_from_the_bits_that_text_would_spell():
    codes = grids()
    data = plain_bytes(codes, SIZES)
    text = "".join(
        f"{code:0{bits}b}"
        for grid, bits in zip(codes, (10, 3, 1, 1), strict=True)
        for code in grid.reshape(-1).tolist()
    )
    whole = -(-len(text) // 8)
    assert data == int(text.ljust(8 * whole, "0"), 2).to_bytes(whole, "big")
    for found, expected in zip(plain_codes(data, SHAPES, SIZES), codes, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_bytes_of_other_codes_are_refused():
    data = plain_bytes(grids(), SIZES)
    for other in (data[:-1], data + b"\0"):
        with pytest.raises(InputError, match="more or fewer codes than its size"):
            plain_codes(other, SHAPES, SIZES)
    with pytest.raises(InputError, match="codes are damaged"):
        plain_codes(b"\xff" * len(data), SHAPES, SIZES)
