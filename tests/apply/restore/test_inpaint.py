"""Filling holes: what is kept, and which codes may change."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avq.apply.completion import Completion
from avq.apply.prior import load_prior
from avq.apply.restore.inpaint import CANDIDATES, completed, inpaint, inpaint_by_prior
from avq.errors import InputError
from avq.models.prior import Drawing


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


@pytest.fixture(scope="module")
def completion(prior_run):
    return Completion(load_prior(prior_run), Drawing())


@pytest.fixture(scope="module")
def square():
    return np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def middle():
    hole = np.zeros((16, 16), bool)
    hole[5:9, 6:11] = True
    return hole


def test_prior_fills_the_hole_alone_and_does_not_read_it(completion, square, middle):
    filled = inpaint_by_prior(completion, square, middle, seed=3)
    np.testing.assert_array_equal(filled[~middle], square[~middle])
    assert np.any(filled != square, axis=-1)[middle].mean() > 0.9
    black = np.where(middle[..., None], np.uint8(0), square)
    np.testing.assert_array_equal(inpaint_by_prior(completion, black, middle, seed=3), filled)


def test_seed_decides_what_a_prior_fills_in(completion, square, middle):
    filled = [inpaint_by_prior(completion, square, middle, seed) for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(filled[0], filled[1])
    assert len({image.tobytes() for image in filled}) > 2


def test_known_codes_stay_and_one_of_the_drawn_completions_is_taken(completion, tokenizer):
    rng = np.random.default_rng(0)
    (codes,) = (rng.integers(0, size, (4, 4)) for size in tokenizer.codebook_sizes)
    missing = rng.random((4, 4)) < 0.3
    (drawn,) = completed(completion, (codes,), [missing], seed=5)
    np.testing.assert_array_equal(drawn[0][~missing], codes[~missing])
    start = np.stack([np.where(missing, -1, codes)] * CANDIDATES)
    (candidates,) = completion((start,), 5)
    assert any(np.array_equal(drawn[0], each) for each in candidates)
    (kept,) = completed(completion, (codes,), [np.zeros((4, 4), bool)], seed=5)
    np.testing.assert_array_equal(kept[0], codes)


class Stub(Completion):
    """Draws codes evenly, of a prior that expects the later ones after a 2 alone."""

    def __init__(self):
        module = SimpleNamespace(exact=True)
        self.prior: Any = SimpleNamespace(module=module, bits=self.bits)

    def __call__(self, start, seed, labels=None, numbers=None):
        drawn = np.random.default_rng(seed).integers(0, 4, start[0].shape)
        return (np.where(start[0] < 0, drawn, start[0]),)

    def bits(self, codes):
        expected = (codes[0][:, :1, :1] == 2) | (np.arange(4).reshape(2, 2) == 0)
        return (np.where(expected, 0.1, 20.0),)


def test_completion_is_taken_by_the_likelihood_of_later_codes():
    missing = np.array([[True, False], [False, False]])
    drawn = [completed(Stub(), (np.ones((2, 2), int),), [missing], seed)[0] for seed in range(20)]
    assert np.mean([codes[0, 0, 0] == 2 for codes in drawn]) > 0.9  # 1/4 without


def test_prior_takes_images_of_its_own_size(completion, image, hole):
    with pytest.raises(InputError, match="models images of 16x16 pixels, and one has 34x21"):
        inpaint_by_prior(completion, image, hole)
