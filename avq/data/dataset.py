"""Images of a run: training and test set, and their statistics."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.data.images import UnreadableImage
from avq.data.settings import Data
from avq.data.sources import Source, open_splits
from avq.data.sources.prepared import prepared
from avq.data.views import SquareView
from avq.errors import InputError

log = logging.getLogger("avq")

SAMPLE = 2048  # evenly spaced images that pixel statistics are measured on


class ImageSet:
    """Images of a source, of which some may be unreadable: each of those is logged once and kept in
    `rejected`, and an `InputError` lists them once they are more than a share of all.

    Attributes:
        source: the images.
        max_rejected: the share that may be unreadable.
        rejected: reason by name of the unreadable images so far.
    """

    def __init__(self, source: Source, max_rejected: float = 0.01) -> None:
        self.source = source
        self.max_rejected = max_rejected
        self.rejected: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """Reads an image; None when it is unreadable."""
        try:
            return self.source[index]
        except UnreadableImage as error:
            self._reject(self.source.name(index), str(error))
            return None

    def _reject(self, name: str, reason: str) -> None:
        if name in self.rejected:
            return
        self.rejected[name] = reason
        log.warning("skipped unreadable image %s (%s); %d so far", name, reason, len(self.rejected))
        require_few(self.rejected, len(self), self.max_rejected)

    def nearest(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads an image, or the next readable one, from the end on to the first.

        Raises:
            InputError: when none is readable.
        """
        for offset in range(len(self)):
            image = self[(index + offset) % len(self)]
            if image is not None:
                return image
        raise InputError(
            f"none of the {len(self)} images is readable, {self.source.name(0)} among them. "
            "Check data.path."
        )

    def square(self, index: int, size: int, rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
        """Reads `nearest` as a square, for statistics and samples: an augmented one where the
        source asks for it, else the centre.
        """
        return SquareView(size, self.source.augment)(self.nearest(index), rng)


def require_few(rejected: Mapping[str, str], images: int, share: float) -> None:
    """Refuses a set with too many unreadable images.

    Args:
        rejected: reason by name of the unreadable images.
        images: number of all images.
        share: of all images that may be unreadable.

    Raises:
        InputError: listing the unreadable images.
    """
    if len(rejected) > share * images:
        listed = "; ".join(f"{name} ({reason})" for name, reason in rejected.items())
        raise InputError(
            f"{len(rejected)} of {images} images are unreadable, more than "
            f"data.max_rejected={share:g} of them: {listed}. Mend or remove them, or raise it."
        )


@dataclass
class Summary:
    """Summary of a run's data, kept as its `dataset.json`.

    Attributes:
        counts: number of images in 'train' and 'test'.
        pixel_mean, pixel_std, pixel_variance: of the training pixels in [-1, 1]; the variance is
            the paper's sigma.
        size: side of the images, pixels.
        seed: of the split.
        rejected: name and reason of the unreadable images met while measuring the statistics.
    """

    counts: dict[str, int]
    pixel_mean: float
    pixel_std: float
    pixel_variance: float
    size: int
    seed: int
    rejected: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Dataset:
    """Training and test images of a run."""

    train: ImageSet
    test: ImageSet
    summary: Summary


def open_dataset(data: Data, known: Mapping[str, Any] | None = None) -> Dataset:
    """Opens the images of a run.

    Args:
        data: the config's section.
        known: the run's `dataset.json`; None measures the statistics of the training pixels.

    Raises:
        InputError: for a path that is missing or has too few images, or whose images changed since
            `known`.
    """
    sources = open_splits(data)
    train, test = (ImageSet(sources[split], data.max_rejected) for split in ("train", "test"))
    counts = {"train": len(train), "test": len(test)}
    if known is not None:
        _require_same_images(known["counts"], counts)
        return Dataset(train, test, Summary(**known))
    if not len(train) or not len(test):
        raise InputError(
            f"data.path: {counts['train']} images to train on and {counts['test']} to test on are "
            "too few. Add images, or folders train/ and test/."
        )
    mean, variance = known_statistics(data) or pixel_statistics(train, data.image_size)
    readable = len(train) - len(train.rejected)
    if not train.source.augment and readable < data.batch_size:
        raise InputError(
            f"data.path: {readable} readable training images are fewer than "
            f"data.batch_size={data.batch_size}. Add images or lower data.batch_size."
        )
    rejected = [{"name": name, "reason": reason} for name, reason in train.rejected.items()]
    summary = Summary(
        counts, mean, variance**0.5, variance, data.image_size, data.split_seed, rejected
    )
    return Dataset(train, test, summary)


def known_statistics(data: Data) -> tuple[float, float] | None:
    """Mean and variance of all training pixels as `avq prepare` has counted them; None where the
    images are no prepared ones of this size.

    Raises:
        InputError: for a prepared folder whose description is damaged.
    """
    description = prepared(data.path)
    if description is None or description.get("size") != data.image_size:
        return None
    try:
        return float(description["pixel_mean"]), float(description["pixel_variance"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"data.path: {data.path!r}: dataset.json is damaged ({error!r}). Run avq prepare "
            "again, into another folder."
        ) from error


def pixel_statistics(images: ImageSet, size: int) -> tuple[float, float]:
    """Mean and variance of the pixels in [-1, 1], all channels together, over at most 2,048 images,
    or over 2,048 augmented squares where the source asks for them.
    """
    rows = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).round().astype(int)
    if images.source.augment:
        rows = np.arange(SAMPLE) % len(images)

    def moments(position: int) -> tuple[float, float]:
        rng = np.random.default_rng(position)
        pixels = images.square(int(rows[position]), size, rng) / 127.5 - 1
        return float(pixels.mean()), float((pixels**2).mean())

    with ThreadPoolExecutor(2) as pool:
        first, second = np.array(list(pool.map(moments, range(len(rows))))).mean(0)
    return float(first), float(second - first**2)


def _require_same_images(before: Mapping[str, int], now: Mapping[str, int]) -> None:
    if dict(before) != dict(now):
        raise InputError(
            f"data.path: the run began with {dict(before)} images and there are {dict(now)} now. "
            "Restore the images, or start in another --workdir."
        )
