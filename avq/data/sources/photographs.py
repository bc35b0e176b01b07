"""Embedded photographs, from scikit-image's package."""

import importlib.resources
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from avq.data.images import decode
from avq.data.settings import Data
from avq.data.sources.base import Source
from avq.data.views import random_square

PATH = "photographs"
HELD_OUT_CROPS = 512

# In the public domain or under CC0 (docs/DATA.md names the licence of each).
TRAIN_PHOTOGRAPHS = (
    "rocket.jpg",
    "coffee.png",
    "retina.jpg",
    "hubble_deep_field.jpg",
    "brick.png",
    "grass.png",
)
TEST_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "camera.png", "gravel.png")


class Photographs:
    """Whole photographs for training; for testing, 512 random squares of other photographs in their
    true colours, always the same ones.

    Args:
        split: 'train' or 'test'.
        size: side of the test squares, pixels.
        channels: as `decode` takes it.
    """

    def __init__(self, split: str, size: int, channels: int = 3) -> None:
        self.augment = split == "train"
        self._names = list(TRAIN_PHOTOGRAPHS if self.augment else TEST_PHOTOGRAPHS)
        folder = importlib.resources.files("skimage.data")
        self._images = [
            decode(folder.joinpath(name).read_bytes(), channels=channels) for name in self._names
        ]
        if not self.augment:
            rng = np.random.default_rng(1967)
            whole, files = self._images, self._names
            self._images = [
                random_square(whole[i % len(whole)], size, rng) for i in range(HELD_OUT_CROPS)
            ]
            self._names = [
                f"{files[i % len(files)]}#{i // len(files)}" for i in range(HELD_OUT_CROPS)
            ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        return self._images[index]

    def name(self, index: int) -> str:
        """Name of a photograph or of a square of one."""
        return self._names[index]


def open_photographs(data: Data) -> Mapping[str, Source] | None:
    """Opens the embedded photographs for the path 'photographs'."""
    if data.path != PATH:
        return None
    return {
        split: Photographs(split, data.image_size, data.channels) for split in ("train", "test")
    }
