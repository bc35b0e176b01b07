"""Anomaly maps: where a model reconstructs an image badly, and where its codes are rare."""

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter

from avq.apply.inputs import as_picture
from avq.apply.tokenizer import Codes, Tokenizer
from avq.apply.training_images import training_images
from avq.data.dataset import evenly
from avq.errors import InputError

COUNTED = 1_000  # training images, evenly spaced, that say what is usual


class Maps(NamedTuple):
    """Maps of an image: how far each pixel is above the mean of usual images, in their standard
    deviations.

    Attributes:
        error: by the logarithm of the squared error of the reconstruction.
        rarity: by the bits of its codes, minus the logarithms of their frequencies, of all levels.
        both: mean of the two.
    """

    error: Float[np.ndarray, "h w"]
    rarity: Float[np.ndarray, "h w"]
    both: Float[np.ndarray, "h w"]

    def scores(self) -> dict[str, float]:
        """The largest value of each map."""
        return {name: float(values.max()) for name, values in self._asdict().items()}


class Anomalies:
    """Finds what is unusual in images by a model and images that are usual.

    Errors and bits are averaged by a Gaussian as wide as a code of the coarsest level, so that maps
    do not show single pixels.

    Attributes:
        tokenizer: of the model.
        bits: of each code by level, finest first, from its frequency in the usual images with one
            occurrence more.

    Args:
        tokenizer: of the model.
        usual: images, each as `Tokenizer.encode` takes one, of bytes.

    Raises:
        InputError: without usual images.
    """

    def __init__(self, tokenizer: Tokenizer, usual: Iterable[Any]) -> None:
        self.tokenizer = tokenizer
        counts = [np.ones(size, np.int64) for size in tokenizer.codebook_sizes]
        kept: list[tuple[Codes, tuple[int, int]]] = []
        errors, rarities = Moments(), Moments()
        for image, codes, pixels in self._reconstructed(usual):
            errors.add(self._error(image, pixels))
            kept.append((codes, pixels.shape[:2]))
            for level, grid in zip(counts, codes, strict=True):
                level += np.bincount(grid.ravel(), minlength=len(level))
        if not kept:
            raise InputError("there are no images that show what is usual. Give some.")
        self.bits = tuple(-np.log2(level / level.sum()) for level in counts)
        for codes, size in kept:
            rarities.add(self._rarity(codes, size))
        self._errors, self._rarities = errors, rarities

    def maps(self, images: Iterable[Any]) -> Iterator[Maps]:
        """Maps of images of any sizes, one after another.

        Args:
            images: each as `Tokenizer.encode` takes one, of bytes.
        """
        for image, codes, pixels in self._reconstructed(images):
            error = self._errors.standardised(self._error(image, pixels))
            rarity = self._rarities.standardised(self._rarity(codes, pixels.shape[:2]))
            yield Maps(error, rarity, (error + rarity) / 2)

    def _reconstructed(
        self, images: Iterable[Any]
    ) -> Iterator[tuple[UInt8[np.ndarray, "_h _w c"], Codes, UInt8[np.ndarray, "_h _w c"]]]:
        """Images, their codes and reconstructions."""
        data = self.tokenizer.trained.data
        given, encoded = tee(as_picture(image, data) for image in images)
        first, second, third = tee(self.tokenizer.encode_sized(encoded), 3)
        made = self.tokenizer.decode_each((codes for codes, _ in second), (s for _, s in third))
        for image, (codes, _), pixels in zip(given, first, made, strict=True):
            yield image, codes, pixels

    def _error(
        self, image: UInt8[np.ndarray, "h w c"], pixels: UInt8[np.ndarray, "h w c"]
    ) -> Float[np.ndarray, "h w"]:
        """Logarithm of the averaged squared error in levels, at least that of one level."""
        squared = np.square(image.astype(float) - pixels).mean(-1)
        logarithm: Float[np.ndarray, "h w"] = np.log(1 + self._averaged(squared))
        return logarithm

    def _rarity(self, codes: Codes, size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """Averaged bits of the codes that stand at each pixel."""
        height, width = size
        levels = zip(self.bits, codes, self.tokenizer.cells, strict=True)
        bits = sum(
            np.kron(of[grid], np.ones((side, side)))[:height, :width] for of, grid, side in levels
        )
        return self._averaged(np.asarray(bits))

    def _averaged(self, values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        averaged: Float[np.ndarray, "h w"] = gaussian_filter(values, self.tokenizer.cells[-1])
        return averaged


class Moments:
    """Mean and standard deviation of values that come in parts."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)  # of ones, values and squares

    def add(self, values: Float[np.ndarray, "h w"]) -> None:
        """Counts some values."""
        self._sums += values.size, values.sum(), np.square(values).sum()

    def standardised(self, values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Values less the mean, in standard deviations."""
        _, mean, square = self._sums / self._sums[0]
        deviation = max(square - mean**2, 1e-18) ** 0.5
        standardised: Float[np.ndarray, "h w"] = (values - mean) / deviation
        return standardised


def usual_images(tokenizer: Tokenizer) -> Iterator[UInt8[np.ndarray, "s s c"]]:
    """Squares of up to 1,000 of the run's training images, evenly spaced.

    Raises:
        InputError: when the images cannot be opened, or have changed since training.
    """
    reason = "the run's training images show what is usual, unless others are given"
    train = training_images(tokenizer, reason)
    rng = np.random.default_rng(0)
    return (train.square(row, tokenizer.image_size, rng) for row in evenly(len(train), COUNTED))
