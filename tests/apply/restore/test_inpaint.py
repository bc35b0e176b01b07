"""Filling holes: what is kept, and which codes may change."""

import numpy as np
import pytest

from avq.apply.restore.inpaint import inpaint
from avq.errors import InputError


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)


@pytest.fixture
def hole():
    hole = np.zeros((21, 34), bool)
    hole[6:13, 9:20] = True
    return hole


def test_pixels_around_the_hole_are_kept_and_those_in_it_not_read(tokenizer, image, hole):
    filled = inpaint(tokenizer, image, hole)
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    black = np.where(hole[..., None], np.uint8(0), image)
    np.testing.assert_array_equal(inpaint(tokenizer, black, hole), filled)


def test_only_codes_whose_squares_touch_the_hole_change(tokenizer, image, hole, monkeypatch):
    decoded = []

    def spy(codes, sizes, decode=tokenizer.decode_each):
        codes = list(codes)
        decoded.extend(codes)
        return decode(codes, sizes)

    monkeypatch.setattr(tokenizer, "decode_each", spy)
    inpaint(tokenizer, image, hole)
    assert len(decoded) > 1
    for level, cell in enumerate(tokenizer.cells):
        kept = np.ones(decoded[0][level].shape, bool)
        for y, x in np.argwhere(hole):
            kept[y // cell, x // cell] = False
        assert kept.any()
        for codes in decoded[1:]:
            np.testing.assert_array_equal(codes[level][kept], decoded[0][level][kept])


@pytest.mark.parametrize(
    ("hole", "message"),
    [
        (np.ones((34, 21), bool), "the mask has 21x34 pixels and the image 34x21"),
        (np.ones((21, 34), bool), "the mask covers the whole image"),
        (np.zeros((21, 34), bool), "nothing to fill"),
    ],
)
def test_mask_that_does_not_fit_is_refused(tokenizer, image, hole, message):
    with pytest.raises(InputError, match=message):
        inpaint(tokenizer, image, hole)
