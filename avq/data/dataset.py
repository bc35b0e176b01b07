"""A run's images: training and test source, and what is known about them."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.data.images import (
    UnreadableImage,
    centre_square,
    random_colours,
    random_crop,
    random_square,
)
from avq.data.sources import Source, open_splits, prepared
from avq.errors import InputError

log = logging.getLogger("avq")

SAMPLE = 2048  # images, evenly spaced, that the pixel statistics are taken from


class Readable:
    """A source that survives unreadable images: each is named once in the log and remembered in
    `rejected`. When more than a share of all images are unreadable, an `InputError` lists them.

    Attributes:
        source: what is read.
        max_rejected: the share that may be unreadable.
        rejected: reason by name.
    """

    def __init__(self, source: Source, max_rejected: float = 0.01) -> None:
        self.source = source
        self.max_rejected = max_rejected
        self.rejected: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """The image, or None when it is unreadable."""
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
        """The image, or the next one that is readable.

        Raises:
            InputError: when none is.
        """
        for offset in range(len(self)):
            image = self[(index + offset) % len(self)]
            if image is not None:
                return image
        raise InputError(
            f"none of the {len(self)} images is readable, {self.source.name(0)} among them. "
            "Check data.path."
        )

    def square(
        self, index: int, size: int, rng: np.random.Generator, min_crop: float = 1.0
    ) -> UInt8[np.ndarray, "s s 3"]:
        """`nearest`, cut to a square: at random and in random colours where the source asks for
        it, else the centre or, for a `min_crop` below 1, a random crop of at least that share of
        the shorter side.
        """
        image = self.nearest(index)
        if self.source.augment:
            return random_colours(random_square(image, size, rng), rng)
        if min_crop < 1:
            return random_crop(image, size, rng, min_crop)
        return centre_square(image, size)


def require_few(rejected: Mapping[str, str], images: int, share: float) -> None:
    """Stops at more unreadable images than a share of all.

    Raises:
        InputError: with the list.
    """
    if len(rejected) > share * images:
        listed = "; ".join(f"{name} ({reason})" for name, reason in rejected.items())
        raise InputError(
            f"{len(rejected)} of {images} images are unreadable, more than "
            f"data.max_rejected={share:g} of them: {listed}. Mend or remove them, or raise it."
        )


@dataclass
class Summary:
    """What a run keeps about its data, in `dataset.json`.

    Attributes:
        counts: images in 'train' and 'test'.
        pixel_mean, pixel_std, pixel_variance: of the training pixels in [-1, 1]; the variance is
            the paper's sigma.
        size: side of the images, pixels.
        seed: of the split.
        rejected: name and reason of the unreadable files found while sampling the statistics.
    """

    counts: dict[str, int]
    pixel_mean: float
    pixel_std: float
    pixel_variance: float
    size: int
    seed: int
    rejected: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Dataset:
    """Training and test images of a run."""

    train: Readable
    test: Readable
    summary: Summary


def open_dataset(data: Any, known: Mapping[str, Any] | None = None) -> Dataset:
    """Opens the images that a config's `data` names.

    Args:
        data: the config's section.
        known: the run's `dataset.json` where it has one; else the training pixels are measured.

    Raises:
        InputError: for a path that is missing or has too few images, or whose images changed since
            `known`.
    """
    sources = open_splits(data)
    train, test = (Readable(sources[split], data.max_rejected) for split in ("train", "test"))
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


def known_statistics(data: Any) -> tuple[float, float] | None:
    """Mean and variance that `avq prepare` counted over all training pixels, where `data` takes
    its images as they were prepared.
    """
    about = prepared(data.path)
    if about is None or about.get("size") != data.image_size:
        return None
    try:
        return float(about["pixel_mean"]), float(about["pixel_variance"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"data.path: {data.path!r}: dataset.json is damaged ({error!r}). Run avq prepare "
            "again, into another folder."
        ) from error


def pixel_statistics(images: Readable, size: int) -> tuple[float, float]:
    """Mean and variance of all channels of the pixels in [-1, 1], over at most 2,048 images."""
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
