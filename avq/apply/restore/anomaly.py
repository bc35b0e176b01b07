"""Anomaly maps: where a model reconstructs an image badly, where its codes are rare, and where a
prior did not expect them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat, tee
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter

from avq.apply.completion import require_size
from avq.apply.inputs import as_picture
from avq.apply.prior import AT_ONCE, Prior
from avq.apply.tokenizer import Codes, Size, Tokenizer
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
        both: mean of `error` and `rarity`, or with a prior of `error` and `surprisal`.
        surprisal: by the bits of its codes given those before, minus the logarithms of a prior's
            probabilities, of all levels; None without a prior.
    """

    error: Float[np.ndarray, "h w"]
    rarity: Float[np.ndarray, "h w"]
    both: Float[np.ndarray, "h w"]
    surprisal: Float[np.ndarray, "h w"] | None = None

    def scores(self) -> dict[str, float]:
        """The largest value of each map."""
        maps = self._asdict().items()
        return {name: float(values.max()) for name, values in maps if values is not None}


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
        prior: over its codes, for `Maps.surprisal`. All images are then of the prior's size.

    Raises:
        InputError: without usual images; for a prior that has bounds of likelihoods alone.
    """

    def __init__(
        self, tokenizer: Tokenizer, usual: Iterable[Any], prior: Prior | None = None
    ) -> None:
        if prior and not prior.module.exact:
            raise InputError(
                "a masked prior does not say how likely a code is. Give a transformer or pixelcnn."
            )
        self.tokenizer, self._prior = tokenizer, prior
        counts = [np.ones(size, np.int64) for size in tokenizer.codebook_sizes]
        kept: list[tuple[Codes, Size]] = []
        errors, rarities, surprisals = Moments(), Moments(), Moments()
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
        if prior:
            for values in self._surprisals(prior, iter(kept)):
                surprisals.add(values)
        self._errors, self._rarities, self._surprisal = errors, rarities, surprisals

    def maps(self, images: Iterable[Any]) -> Iterator[Maps]:
        """Maps of images of any sizes, one after another.

        Args:
            images: each as `Tokenizer.encode` takes one, of bytes.

        Raises:
            InputError: for an image of another size than the prior's.
        """
        first, second = tee(self._reconstructed(images))
        encoded = ((codes, pixels.shape[:2]) for _, codes, pixels in second)
        found = self._surprisals(self._prior, encoded) if self._prior else repeat(None)
        for (image, codes, pixels), values in zip(first, found, strict=False):
            error = self._errors.standardised(self._error(image, pixels))
            rarity = self._rarities.standardised(self._rarity(codes, pixels.shape[:2]))
            surprisal = None if values is None else self._surprisal.standardised(values)
            other = rarity if surprisal is None else surprisal
            yield Maps(error, rarity, (error + other) / 2, surprisal)

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

    def _rarity(self, codes: Codes, size: Size) -> Float[np.ndarray, "h w"]:
        """Averaged bits of the codes that stand at each pixel, by their frequencies."""
        return self._summed([of[grid] for of, grid in zip(self.bits, codes, strict=True)], size)

    def _surprisals(
        self, prior: Prior, each: Iterator[tuple[Codes, Size]]
    ) -> Iterator[Float[np.ndarray, "_h _w"]]:
        """Averaged bits of the codes that stand at each pixel, by a prior, of images."""
        while some := list(islice(each, AT_ONCE)):
            for _, size in some:
                require_size(prior, size)
            grids = zip(*(codes for codes, _ in some), strict=True)
            bits = prior.bits([np.stack(level) for level in grids])
            for row, (_, size) in enumerate(some):
                yield self._summed([level[row] for level in bits], size)

    def _summed(
        self, bits: Sequence[Float[np.ndarray, "_h _w"]], size: Size
    ) -> Float[np.ndarray, "h w"]:
        """Averaged sum over levels of the bits of the codes at each pixel."""
        height, width = size
        each = zip(bits, self.tokenizer.cells, strict=True)
        placed = (np.kron(grid, np.ones((side, side)))[:height, :width] for grid, side in each)
        return self._averaged(np.sum(list(placed), axis=0))

    def _averaged(self, values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        averaged: Float[np.ndarray, "h w"] = gaussian_filter(values, self.tokenizer.cells[-1])
        return averaged


class Moments:
    """Mean and standard deviation of values that come in parts."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)  # of ones, values and squares

    def add(self, values: Float[np.ndarray, "h w"]) -> None:
        """Counts some values."""
        self._sums += np.array([values.size, values.sum(), np.square(values).sum()])

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
