"""Views: crops, flips, resizes, colour changes and degradations of a decoded image.

A view is a function of an image and, where it is random, of the generator that it draws from.
`SquareView` makes the squares of statistics and samples, `TrainingView` the rows of training
batches, `Degradation` what the model sees in place of a square.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from avq.data.channels import from_pil, to_pil
from avq.settings import setting

MAX_ZOOM = 4  # largest side of a random square, in units of the side it is resized to


@dataclass(frozen=True)
class SquareView:
    """View that is a square of a fixed size.

    Attributes:
        size: side of the square, pixels.
        augment: whether to take a random square in random colours.
        min_crop: side of the smallest random crop as a share of the shorter side; 1 takes the
            centre square. Not read where `augment` is set.
    """

    size: int
    augment: bool = False
    min_crop: float = 1.0

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "s s c"]:
        if self.augment:
            return random_colours(random_square(image, self.size, rng), rng)
        if self.min_crop < 1:
            return random_crop(image, self.size, rng, self.min_crop)
        return centre_square(image, self.size)


@dataclass(frozen=True)
class Degradation:
    """Degradation of the model's input, which it is trained to undo: the picture of a worse camera.
    Settings of the section 'data'.
    """

    noise: float = setting(
        0.0,
        "standard deviation of Gaussian noise in the model's input, of 255 levels; the loss "
        "compares with the image itself",
        low=0,
        high=255,
    )
    downscale: int = setting(
        1,
        "factor by which the model's input is shrunk, before noise, and enlarged again; the loss "
        "compares with the image itself",
        low=1,
        high=64,
    )

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.noise > 0 or self.downscale > 1

    def __str__(self) -> str:
        shrunk = [f"shrunk {self.downscale} times"] if self.downscale > 1 else []
        noisy = [f"noise of {self.noise:g} levels"] if self.noise else []
        return ", ".join(shrunk + noisy) or "none"

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "h w c"]:
        """Degrades an image whose sides `downscale` divides."""
        if not self:
            return image
        height, width, _ = image.shape
        small = rescaled(image, height // self.downscale, width // self.downscale)
        return rescaled(with_noise(small, self.noise, rng), height, width)

    def row(
        self, square: UInt8[np.ndarray, "s s c"], rng: np.random.Generator
    ) -> dict[str, UInt8[np.ndarray, "s s c"]]:
        """Row of a batch: 'image', the model's input, and where degraded 'target', the square."""
        return {"image": self(square, rng), "target": square} if self else {"image": square}


CLEAN = Degradation()


@dataclass(frozen=True)
class TrainingView:
    """Row of a training batch, see `Degradation.row`.

    Attributes:
        square: view that cuts the square.
        flip: whether half of the squares are mirrored.
        degradation: of the model's input.
    """

    square: SquareView
    flip: bool
    degradation: Degradation = CLEAN

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator
    ) -> dict[str, UInt8[np.ndarray, "s s c"]]:
        square = self.square(image, rng)
        if self.flip:
            square = random_flip(square, rng)
        return self.degradation.row(square, rng)


def centre_square(
    image: UInt8[np.ndarray, "h w c"], size: int
) -> UInt8[np.ndarray, "{size} {size} c"]:
    """Crops the largest centred square and resizes it to `size` pixels a side."""
    h, w, _ = image.shape
    side = min(h, w)
    return _resized(image, (h - side) // 2, (w - side) // 2, side, size)


def random_square(
    image: UInt8[np.ndarray, "h w c"], size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "{size} {size} c"]:
    """Crops a square at a random place and scale, and resizes it to `size` pixels a side.

    The scale, in image pixels a pixel, is log-uniform from 1 to 4, or to what the image allows.
    """
    h, w, _ = image.shape
    largest = min(h, w)
    smallest = min(size, largest)
    scale = rng.uniform(0.0, np.log(max(1.0, min(MAX_ZOOM, largest / smallest))))
    side = min(largest, round(smallest * float(np.exp(scale))))
    top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
    return _resized(image, int(top), int(left), side, size)


def random_crop(
    image: UInt8[np.ndarray, "h w c"], size: int, rng: np.random.Generator, smallest: float
) -> UInt8[np.ndarray, "{size} {size} c"]:
    """Crops a square at a random place, and resizes it to `size` pixels a side.

    Its side is a random share, uniform from `smallest` to 1, of the shorter side.
    """
    h, w, _ = image.shape
    side = max(1, round(min(h, w) * rng.uniform(smallest, 1.0)))
    top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
    return _resized(image, int(top), int(left), side, size)


def random_colours(
    image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """Changes the colours of half of the images: permutes red, green and blue and dims two of them
    by factors of 0.5 to 1; half of the changed ones become negatives, of grey ones all that is
    done. Alpha stays as it is.

    For sets of so few photographs that their own colours are few.
    """
    if rng.integers(2):
        return image
    colours, alpha = image[..., :3], image[..., 3:]
    n = colours.shape[-1]
    gains = rng.permutation(np.append(rng.uniform(0.5, 1.0, n - 1), 1.0))
    changed = np.round(colours[..., rng.permutation(n)] * gains).astype(np.uint8)
    if rng.integers(2):
        changed = np.subtract(255, changed, dtype=np.uint8)
    return np.concatenate([changed, alpha], axis=-1)


def random_flip(
    image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """Mirrors half of the images, left to right."""
    if not rng.integers(2):
        return image
    mirrored = np.empty_like(image)
    for channel in range(image.shape[-1]):  # far faster than to copy the reversed view at once
        mirrored[:, :, channel] = image[:, ::-1, channel]
    return mirrored


def with_noise(
    image: UInt8[np.ndarray, "h w c"], sigma: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w c"]:
    """Adds Gaussian noise of `sigma` levels to each value but those of alpha; the sum is rounded,
    and clipped to what a picture holds.
    """
    colours, alpha = image[..., :3], image[..., 3:]
    values = colours + np.float32(sigma) * rng.standard_normal(colours.shape, np.float32)
    noisy = np.round(values).clip(0, 255).astype(np.uint8)
    return np.concatenate([noisy, alpha], axis=-1)


def rescaled(
    image: UInt8[np.ndarray, "h w c"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} c"]:
    """Resizes an image by Pillow's bicubic filter, which averages where it shrinks, and weighs
    colours by their alpha.
    """
    resized = to_pil(image).resize((width, height), Image.Resampling.BICUBIC)
    return from_pil(resized, image.shape[-1])


def _resized(
    image: UInt8[np.ndarray, "h w c"], top: int, left: int, side: int, size: int
) -> UInt8[np.ndarray, "{size} {size} c"]:
    crop = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(crop)
    resized = to_pil(crop).resize((size, size), Image.Resampling.LANCZOS)
    return from_pil(resized, image.shape[-1])
