"""Images of a run: training and test set, and their statistics."""

import logging
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.data.channels import MODES, from_pil, to_pil
from avq.data.images import UnreadableImage
from avq.data.names import from_text, to_text
from avq.data.settings import Data
from avq.data.sources import Source
from avq.data.sources.base import name_hashes, used_range
from avq.data.sources.prepared import AGAIN, DESCRIPTION, mode_of, prepared
from avq.data.split import OLDER, open_splits
from avq.data.views import SquareView
from avq.errors import InputError

log = logging.getLogger("avq")

SAMPLE = 2048  # evenly spaced images that pixel statistics are measured on
LOOKED_AT, DARK = 64, 1 / 8
MOST_NAMES = 10_000_000  # images whose names a run keeps hashes of, 10.7 bytes each


class ImageSet:
    """Images of a source, of which some may be unreadable: each of those is logged once and kept in
    `rejected`, and an `InputError` lists them once they are more than a share of all.

    Attributes:
        source: the images.
        max_rejected: the share that may be unreadable.
        channels: that images have here, 1, 3 or 4, see `avq.data.channels`.
        rejected: reason by name of the unreadable images so far.
    """

    def __init__(self, source: Source, max_rejected: float = 0.01, channels: int = 3) -> None:
        self.source = source
        self.max_rejected, self.channels = max_rejected, channels
        self.rejected: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w c"] | None:
        """Reads an image; None when it is unreadable."""
        try:
            image = self.source[index]
        except UnreadableImage as error:
            self._reject(self.source.name(index), str(error))
            return None
        same = image.shape[-1] == self.channels  # not of a source that knows RGB alone
        return image if same else from_pil(to_pil(image), self.channels)

    def _reject(self, name: str, reason: str) -> None:
        if name in self.rejected:
            return
        self.rejected[name] = reason
        log.warning("skipped unreadable image %s (%s); %d so far", name, reason, len(self.rejected))
        require_few(self.rejected, len(self), self.max_rejected)

    def nearest(self, index: int) -> UInt8[np.ndarray, "h w c"]:
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

    def square(self, index: int, size: int, rng: np.random.Generator) -> UInt8[np.ndarray, "s s c"]:
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
        split_rule: how the images were split, in words.
        unused: number of images and other files in neither split, by kind.
        name_hashes: hashes of the images' names by split, see `avq.data.names`; empty where there
            are more than `MOST_NAMES`.
    """

    counts: dict[str, int]
    pixel_mean: float
    pixel_std: float
    pixel_variance: float
    size: int
    seed: int
    rejected: list[dict[str, str]] = field(default_factory=list)
    split_rule: str = OLDER
    unused: dict[str, int] = field(default_factory=dict)
    name_hashes: dict[str, str] = field(default_factory=dict)


def read_summary(content: Any, image_size: int) -> Summary:
    """The summary that a run's `dataset.json` holds.

    Args:
        content: of the file.
        image_size: side of the images in the run's config, pixels.

    Raises:
        InputError: for a file that is damaged, or of another size of images.
    """
    try:
        problem = _problem(content)
        summary = None if problem else Summary(**content)
    except (AttributeError, TypeError, ValueError) as error:
        summary, problem = None, " ".join(str(error).split())
    if summary is not None and summary.size != image_size:
        problem = f"its size is {summary.size}, that of the config {image_size}"
    if summary is None or problem:
        raise InputError(f"the run's dataset.json is damaged ({problem}). Put back a copy.")
    return summary


def _problem(content: Mapping[str, Any]) -> str:
    """What is wrong with the values of a summary; empty where nothing is."""
    for name in ("pixel_mean", "pixel_std", "pixel_variance"):
        value = content.get(name)
        if not isinstance(value, float) or not abs(value) <= 1:
            return f"{name} is {value!r}"
    if not math.isclose(content["pixel_std"] ** 2, content["pixel_variance"], abs_tol=1e-9):
        return "pixel_variance is not the square of pixel_std"
    counts, unused = content.get("counts"), content.get("unused", {})
    if not isinstance(counts, dict) or set(counts) != {"train", "test"}:
        return "counts are not those of train and test"
    whole = {**counts, **unused, "size": content.get("size"), "seed": content.get("seed")}
    for name, value in whole.items():
        if type(value) is not int or value < 0:
            return f"{name} is {value!r}"
    if any(set(entry) != {"name", "reason"} for entry in content.get("rejected", [])):
        return "rejected holds other keys than name and reason"
    hashes = {name: from_text(text) for name, text in content.get("name_hashes", {}).items()}
    if hashes and set(hashes) != {"train", "test"}:
        return "name_hashes are not those of train and test"
    rule = content.get("split_rule", OLDER)
    return "" if isinstance(rule, str) else f"split_rule is {rule!r}"


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
    before = None if known is None else read_summary(known, data.image_size)
    splits = open_splits(data, older=before is not None and before.split_rule == OLDER)
    if splits.unused:
        log.warning("data.path: not used: %s", in_words(splits.unused))
    train, test = (
        ImageSet(part, data.max_rejected, data.channels) for part in (splits.train, splits.test)
    )
    about: dict[str, Any] = {
        "counts": {"train": len(train), "test": len(test)},
        "split_rule": splits.rule,
        "unused": splits.unused,
        "name_hashes": _hashes_by_split(train, test),
    }
    if before is not None:
        _require_same_images(before, about["counts"], about["name_hashes"])
        return Dataset(train, test, replace(before, **about))
    return Dataset(train, test, _measured(data, train, test, about))


def _hashes_by_split(train: ImageSet, test: ImageSet) -> dict[str, str]:
    """Hashes of the names of the images of each split; none of a set whose names are too many."""
    if len(train) + len(test) > MOST_NAMES:
        return {}
    return {
        "train": to_text(name_hashes(train.source)),
        "test": to_text(name_hashes(test.source)),
    }


def _measured(data: Data, train: ImageSet, test: ImageSet, about: Mapping[str, Any]) -> Summary:
    """Summary of a new run, with the statistics of its training pixels."""
    if not len(train) or not len(test):
        raise InputError(
            f"data.path: {len(train)} images to train on and {len(test)} to test on are too few "
            f"({about['split_rule']}). Add images, or folders train/ and test/."
        )
    known = known_statistics(data)
    mean, variance = known or pixel_statistics(train, data.image_size)
    readable = len(train) - len(train.rejected)
    if not train.source.augment and readable < data.batch_size:
        raise InputError(
            f"data.path: {readable} readable training images are fewer than "
            f"data.batch_size={data.batch_size}. Add images or lower data.batch_size."
        )
    # What is prepared has eight bits, and a shard may have to be fetched for a look at each image.
    if known is None and (dark := dark_images(train.source, data.white_level)):
        log.warning("data.path: %s", dark)
    return Summary(
        pixel_mean=mean,
        pixel_std=variance**0.5,
        pixel_variance=variance,
        size=data.image_size,
        seed=data.split_seed,
        rejected=[{"name": name, "reason": reason} for name, reason in train.rejected.items()],
        **about,
    )


def dark_images(source: Source, white_level: int) -> str | None:
    """Warning for a set whose images of more than eight bits a channel all stay under an eighth of
    their type's range, such as 12-bit values in 16-bit files; None where none is needed. Looks at
    64 evenly spaced images.
    """
    if white_level:
        return None
    shares = []
    for row in evenly(len(source), LOOKED_AT):
        with suppress(UnreadableImage):
            share = used_range(source, row)
            if share is not None and share >= DARK:
                return None
            shares.append(share)
    dark = [share for share in shares if share is not None]
    if not dark:
        return None
    return (
        f"{len(dark)} of {len(shares)} images looked at have more than eight bits a channel and "
        f"use at most {100 * max(dark):.2g} % of their range, so that they come out dark. Give the "
        "value that is white in them, such as 4095, as data.white_level (--white-level)."
    )


def evenly(total: int, wanted: int) -> list[int]:
    """Up to `wanted` evenly spaced of `total` rows."""
    rows: list[int] = np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist()
    return rows


def in_words(counts: Mapping[str, int]) -> str:
    """Counts by kind in words: '3 .heic files, 20 validation'."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def known_statistics(data: Data) -> tuple[float, float] | None:
    """Mean and variance of all training pixels as `avq prepare` has counted them; None where the
    images are no prepared ones of this size and these channels.

    Raises:
        InputError: for a prepared folder whose description is damaged.
    """
    description = prepared(data.path)
    if description is None or description.get("size") != data.image_size:
        return None
    if mode_of(description) != MODES[data.channels]:
        return None
    values: list[Any] = [description.get(name) for name in ("pixel_mean", "pixel_variance")]
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        raise InputError(
            f"data.path: {data.path!r}: {DESCRIPTION} is damaged (pixel_mean and pixel_variance "
            f"are {values}). {AGAIN}"
        )
    return values[0], values[1]


def pixel_statistics(images: ImageSet, size: int) -> tuple[float, float]:
    """Mean and variance of the pixels in [-1, 1], all channels together, over at most 2,048 images,
    or over 2,048 augmented squares where the source asks for them.
    """
    rows: Any = evenly(len(images), SAMPLE)
    if images.source.augment:
        rows = np.arange(SAMPLE) % len(images)

    def moments(position: int) -> tuple[float, float]:
        rng = np.random.default_rng(position)
        pixels = images.square(int(rows[position]), size, rng) / 127.5 - 1
        return float(pixels.mean()), float((pixels**2).mean())

    with ThreadPoolExecutor(2) as pool:
        first, second = np.array(list(pool.map(moments, range(len(rows))))).mean(0)
    return float(first), float(second - first**2)


def _require_same_images(
    before: Summary, counts: Mapping[str, int], hashes: Mapping[str, str]
) -> None:
    """Refuses images that are not those of the run; of an older run only their number is known."""
    if before.counts == counts and (not before.name_hashes or before.name_hashes == hashes):
        return
    changes = [f"there were {before.counts} and there are {dict(counts)}"]
    for split, text in before.name_hashes.items():
        then, now = from_text(text), from_text(hashes.get(split, ""))
        added, removed = len(np.setdiff1d(now, then)), len(np.setdiff1d(then, now))
        changes.append(f"{split}: {added} added, {removed} removed")
    raise InputError(
        f"data.path: the images changed since the run began: {'; '.join(changes)}. Restore them, "
        "or start in another --workdir (avq eval --data measures them as they are)."
    )
