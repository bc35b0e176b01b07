"""The photographs that are always there, inside scikit-image's wheel."""

import importlib.resources

import numpy as np
from jaxtyping import UInt8

from avq.data.images import decode, random_colours, random_square

HELD_OUT_CROPS = 512

# Those that their makers gave to the public domain or under CC0 (docs/DATA.md names each).
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
    """Whole photographs for training; fixed random squares of other ones, half of them in other
    colours as in training, for testing.
    """

    def __init__(self, split: str, size: int) -> None:
        self.augment = split == "train"
        self._names = list(TRAIN_PHOTOGRAPHS if self.augment else TEST_PHOTOGRAPHS)
        folder = importlib.resources.files("skimage.data")
        self._images = [decode(folder.joinpath(name).read_bytes()) for name in self._names]
        if not self.augment:
            rng = np.random.default_rng(1967)
            whole, files = self._images, self._names
            self._images = [
                random_colours(random_square(whole[i % len(whole)], size, rng), rng)
                for i in range(HELD_OUT_CROPS)
            ]
            self._names = [
                f"{files[i % len(files)]}#{i // len(files)}" for i in range(HELD_OUT_CROPS)
            ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._images[index]

    def name(self, index: int) -> str:
        return self._names[index]
