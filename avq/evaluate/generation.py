"""What a prior knows and draws: likelihood of codes, samples, and whether they are copies.

Distances between images are root mean squared differences of levels, at 16x16 pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from avq.apply.completion import Completion
from avq.apply.prior import AT_ONCE, Prior
from avq.data.dataset import evenly
from avq.data.views import rescaled
from avq.evaluate.results import intervals
from avq.models.prior import Drawing
from avq.models.prior.places import UNKNOWN

SAMPLES = 64
EXAMPLES = 8  # images whose levels are drawn alone, and samples whose nearest images are shown
COMPARED = 10_000  # images of a split, evenly spaced, that samples are compared with
NEAREST = 2  # training images shown beside a sample
SIDE = 16  # pixels
MEANINGS = {
    "n": "test images",
    "exact": "whether likelihoods are exact; otherwise bits are an estimate of an upper bound",
    "bits_per_code": "mean bits of a test image's codes given those before, what an ideal coder "
    "needs",
    "bits_per_code_by_level": "of each level, finest first",
    "bits_per_dim": "bits of an image's codes over its values, pixels times channels",
    "train_bits_per_code": "of as many training images, evenly spaced",
    "frequency_bits_per_code": "of test images, by the frequencies of the training codes alone",
    "sample_to_train": "median distance of a sample from its nearest training image",
    "test_to_train": "median distance of a test image from its nearest training image",
    "nearest_ratio": "the first over the second; far below 1 where training images are repeated",
    "train_compared": "training images that distances are to, as their codes decode",
}
Codes = Sequence[Integer[np.ndarray, "_n _h _w"]]


class Split(NamedTuple):
    """Codes of a split, finest level first, and numbers of their classes."""

    codes: tuple[Integer[np.ndarray, "n _h _w"], ...]
    labels: Int[np.ndarray, "n"]

    def rows(self, rows: Any) -> "Split":
        """Some images."""
        return Split(tuple(level[rows] for level in self.codes), self.labels[rows])


@dataclass(frozen=True)
class Generated:
    """What was measured of a prior, and what it drew.

    Attributes:
        values: measures by key, see `MEANINGS`.
        samples: images.
        originals: test images as their codes decode.
        by_level: of each level, finest first, `originals` with codes of that level drawn.
        nearest: of each of some samples, its nearest training images.
        distances: of these.
    """

    values: dict[str, Any]
    samples: UInt8[np.ndarray, "n s s c"]
    originals: UInt8[np.ndarray, "m s s c"]
    by_level: tuple[UInt8[np.ndarray, "m s s c"], ...]
    nearest: tuple[UInt8[np.ndarray, "k s s c"], ...]
    distances: Float[np.ndarray, "e k"]


def measure_prior(
    prior: Prior,
    train: Split,
    test: Split,
    seed: int = 0,
    on_images: Callable[[int], object] = lambda done: None,
) -> Generated:
    """Measures a prior.

    Args:
        prior: to measure.
        train, test: codes that it was trained on, and others.
        seed: of the samples.
        on_images: called with the number of images that were measured, drawn or decoded.
    """
    completion = Completion(prior, Drawing())
    values = likelihoods(prior, train, test, on_images)
    samples = _drawn(completion, seed, on_images)
    shown = test.rows(evenly(len(test.labels), EXAMPLES))
    known = train.rows(evenly(len(train.labels), COMPARED))
    held_out = test.rows(evenly(len(test.labels), COMPARED))
    small = [
        np.concatenate([thumbnails(part) for part in _decoded(prior, split, on_images)])
        for split in (known, held_out)
    ]
    rows, distances = nearest(thumbnails(samples), small[0], NEAREST)
    _, of_test = nearest(small[1], small[0], 1)
    to_train = [float(np.median(each[:, 0])) for each in (distances, of_test)]
    return Generated(
        {
            "step": prior.step,
            **values,
            "samples": SAMPLES,
            "seed": seed,
            "sample_to_train": to_train[0],
            "test_to_train": to_train[1],
            "nearest_ratio": to_train[0] / max(to_train[1], 1e-9),
            "train_compared": len(known.labels),
        },
        samples,
        prior.tokenizer.decode(shown.codes),
        tuple(_level_drawn(completion, shown, level, seed) for level in range(len(shown.codes))),
        tuple(prior.tokenizer.decode(known.rows(each).codes) for each in rows[:EXAMPLES]),
        distances[:EXAMPLES],
    )


def likelihoods(
    prior: Prior,
    train: Split,
    test: Split,
    on_images: Callable[[int], object] = lambda done: None,
) -> dict[str, Any]:
    """Bits of codes of test images and of as many training images, by key, see `MEANINGS`."""
    values: dict[str, Any] = {"n": len(test.labels), "exact": prior.module.exact}
    ends: dict[str, list[float]] = {}
    seen = train.rows(evenly(len(train.labels), len(test.labels)))
    for name, split in (("", test), ("train_", seen)):
        levels = [level.mean((1, 2)) for level in prior.bits(split.codes, split.labels)]
        sizes = [level[0].size for level in split.codes]
        total = sum(each * size for each, size in zip(levels, sizes, strict=True))
        of_images = {
            f"{name}bits_per_code": total / sum(sizes),
            f"{name}bits_per_dim": total / prior.tokenizer.dimensions,
        }
        values |= {key: float(each.mean()) for key, each in of_images.items()}
        values[f"{name}bits_per_code_by_level"] = [float(level.mean()) for level in levels]
        ends |= intervals(of_images)
        on_images(len(split.labels))
    baseline = frequency_bits(train.codes, test.codes, prior.tokenizer.codebook_sizes)
    values["frequency_bits_per_code"] = float(np.average(baseline, weights=sizes))
    return values | {"interval": ends}


def frequency_bits(train: Codes, codes: Codes, sizes: Sequence[int]) -> list[float]:
    """Mean bits of each level's codes by the frequencies of the training codes, with one more each.

    Args:
        train: codes that are counted, finest level first.
        codes: codes to measure.
        sizes: of the codebooks.
    """
    result = []
    for known, grids, size in zip(train, codes, sizes, strict=True):
        counts = np.bincount(known.ravel(), minlength=size) + 1
        result.append(float(np.log2(counts.sum() / counts)[grids].mean()))
    return result


def thumbnails(images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
    """Levels of images at 16x16 pixels, flat."""
    rows = [rescaled(image, SIDE, SIDE).ravel() for image in images]
    return np.stack(rows).astype(np.float32)


def nearest(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], count: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Rows of `y` that are nearest to each of `x`, nearest first, and root mean squared distances
    to them.
    """
    squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * x @ y.T
    rows = np.argsort(squares, axis=1, kind="stable")[:, :count]
    differences = x[:, None] - y[rows]
    return rows, np.sqrt(np.square(differences).mean(-1))


def _drawn(
    completion: Completion, seed: int, on_images: Callable[[int], object]
) -> UInt8[np.ndarray, "n s s c"]:
    """Samples, of all classes in turns."""
    prior, parts = completion.prior, []
    for start in range(0, SAMPLES, AT_ONCE):
        numbers = np.arange(start, start + AT_ONCE)
        labels = numbers % max(1, len(prior.classes))
        unknown = tuple(np.full((AT_ONCE, *grid), UNKNOWN) for grid in prior.module.grids)
        parts.append(prior.tokenizer.decode(completion(unknown, seed, labels, numbers)))
        on_images(AT_ONCE)
    return np.concatenate(parts)


def _level_drawn(
    completion: Completion, shown: Split, level: int, seed: int
) -> UInt8[np.ndarray, "n s s c"]:
    """Images with the codes of one level drawn."""
    start = tuple(
        np.full_like(grid, UNKNOWN, np.int32) if number == level else grid
        for number, grid in enumerate(shown.codes)
    )
    drawn: np.ndarray = completion.prior.tokenizer.decode(completion(start, seed, shown.labels))
    return drawn


def _decoded(
    prior: Prior, split: Split, on_images: Callable[[int], object]
) -> Iterator[UInt8[np.ndarray, "_n s s c"]]:
    """Images of a split in parts, so that few are held at a time."""
    for start in range(0, len(split.labels), 16 * AT_ONCE):
        part = split.rows(slice(start, start + 16 * AT_ONCE))
        yield prior.tokenizer.decode(part.codes)
        on_images(len(part.labels))
