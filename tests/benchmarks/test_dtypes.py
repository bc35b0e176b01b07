"""Figures of `python -m benchmarks.dtypes`."""

from typing import Any, cast

import numpy as np
import pytest

from benchmarks.use.dtypes import compare


class Stored:
    """Tokenizer of two images whose codes and images are known."""

    def __init__(self, last: int, error: int) -> None:
        self.last, self.error = last, error

    def encode_each(self, images):
        for _ in images:
            yield np.array([[0, 1], [2, self.last]]), np.array([[5]])

    def decode_each(self, codes, sizes):
        for size in sizes:
            yield np.full((*size, 3), 100 + self.error, np.uint8)


def test_codes_that_differ_are_counted_by_level_and_quality_is_that_of_each():
    models: Any = {"float32": Stored(3, error=1), "bfloat16": Stored(7, error=2)}
    row = compare(cast(Any, models), [np.full((4, 6, 3), 100, np.uint8)] * 2)
    assert row["differing_codes"] == [1 / 4, 0]
    assert row["psnr_float32"] == pytest.approx(20 * np.log10(255), abs=1e-3)
    assert row["psnr_bfloat16"] == pytest.approx(20 * np.log10(255 / 2), abs=1e-3)
