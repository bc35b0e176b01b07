"""Squares that a codec is fitted to."""

import numpy as np
import pytest

from avq.apply.codec import training_codes as module
from avq.data.dataset import ImageSet


class Noise:
    """Source of three images of noise, the last a little larger."""

    augment = False

    def __init__(self, height, width):
        self.shapes = [(height, width, 3), (height, width, 3), (height + 1, width + 1, 3)]

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, self.shapes[index], np.uint8)

    def name(self, index):
        return str(index)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(16, 16, 16), (12, 40, 16), (31, 90, 16), (35, 32, 32), (64, 99, 64)],
)
def test_squares_are_as_large_as_the_images_and_no_larger(
    tokenizer, monkeypatch, height, width, side
):
    monkeypatch.setattr(module, "training_images", lambda *_: ImageSet(Noise(height, width)))
    done: list[int] = []
    (codes,) = module.training_codes(tokenizer, done.append, done.append)
    assert codes.shape[1:] == tokenizer.grids(side, side)[0]
    assert len(codes) == done[0] == sum(done[1:]) == 6  # three images and their mirror images


def test_random_crops_give_as_many_squares_as_there_is_room_for(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "training_images", lambda *_: ImageSet(Noise(32, 32)))
    monkeypatch.setitem(tokenizer.trained.config["data"], "min_crop", 0.5)
    monkeypatch.setattr(module, "CODES", 10 * 16)
    (codes,) = module.training_codes(tokenizer)
    height, width = tokenizer.grids(32, 32)[0]
    assert len(codes) == 10 * 16 // (height * width)
