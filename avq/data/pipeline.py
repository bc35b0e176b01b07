"""Streams of batches.

A batch is a dict of arrays: `image`, uint8 pixels, and where they are degraded `target`, the pixels
that a model is to make of them. Training batches are addressed by step: batch s
is a pure function of the source, the seed and s, whatever the number of threads, worker processes
and hosts, so a resumed run sees the batches of an uninterrupted one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import grain
import numpy as np
from absl import flags
from jaxtyping import Bool, UInt8

from avq.data.dataset import ImageSet
from avq.data.settings import Data
from avq.data.views import CLEAN, Degradation, SquareView, TrainingView, centre_square

Batch = dict[str, UInt8[np.ndarray, "b s s c"]]
Row = dict[str, UInt8[np.ndarray, "s s c"]]
T = TypeVar("T")
THREADS = 2
BATCHES_AHEAD = 4
IMAGES_PER_SHARD = 256  # of an evaluation, or more where batches do not divide them


class _HostRows(Generic[T]):
    """This host's rows of every global batch."""

    def __init__(self, rows: grain.MapDataset[T], batch_size: int, host: int, hosts: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.count = batch_size // hosts
        self.first = host * self.count

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size * self.count

    def __getitem__(self, index: int) -> T:
        batch, row = divmod(index, self.count)
        item: T = self.rows[batch * self.batch_size + self.first + row]
        return item


@dataclass
class _TrainingRow:
    """Reads an image and takes a training view of it."""

    images: ImageSet
    view: TrainingView

    def __call__(self, index: int, rng: np.random.Generator) -> Row:
        return self.view(self.images.nearest(index), rng)


def in_batches(
    rows: grain.MapDataset[T], batch_size: int, host: int, hosts: int
) -> grain.MapDataset[T]:
    """One host's part of batches of rows.

    Args:
        rows: in the order of the batches.
        batch_size: that of all hosts together.
        host: index of this host, 0 to `hosts - 1`.
        hosts: number of equal parts that a batch consists of.
    """
    host_rows: _HostRows[T] = _HostRows(rows, batch_size, host, hosts)
    return grain.MapDataset.source(host_rows).batch(host_rows.count, drop_remainder=True)


def train_batches(
    images: ImageSet,
    data: Data,
    *,
    seed: int,
    degradation: Degradation = CLEAN,
    host: int = 0,
    hosts: int = 1,
) -> grain.MapDataset[Batch]:
    """Endless training batches; item s is the batch of step s. Every epoch is a new permutation.

    Args:
        images: training images.
        data: the config's section; `batch_size` is that of all hosts together.
        seed: of permutations and views.
        degradation: of the images, whose originals are then targets.
        host: index of this host, 0 to `hosts - 1`.
        hosts: number of equal parts that a batch consists of.
    """
    square = SquareView(data.image_size, images.source.augment, data.min_crop)
    row = _TrainingRow(images, TrainingView(square, data.flip, degradation))
    indices = grain.MapDataset.range(len(images)).seed(seed).shuffle().repeat()
    return in_batches(indices.random_map(row), data.batch_size, host, hosts)


def prefetch(
    batches: grain.MapDataset[Batch], start: int, workers: int = 0
) -> grain.DatasetIterator[Batch]:
    """Reads batches from step `start` on ahead of their use, in threads of this process or in
    `workers` other processes. Close the iterator when done.
    """
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=BATCHES_AHEAD)
    stream = batches[start:].to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's processes ask for flags of its own
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(workers, per_worker_buffer_size=BATCHES_AHEAD)
        )
    return iter(stream)


def eval_batches(
    images: ImageSet,
    *,
    image_size: int,
    batch_size: int,
    degradation: Degradation = CLEAN,
    host: int = 0,
    hosts: int = 1,
    rows: range | None = None,
) -> Iterator[tuple[Batch, Bool[np.ndarray, "b"]]]:
    """Yields centre squares of every image once, in order, each batch with a mask of its rows.

    Unreadable images and padding keep their row and are masked out.

    Args:
        images: to evaluate on.
        image_size: side of the squares, pixels.
        batch_size: that of all hosts together.
        degradation: of the squares, which are then targets; that of an image is always the same.
        host: index of this host, 0 to `hosts - 1`.
        hosts: number of equal parts that a batch consists of.
        rows: of the images; None for all.
    """
    rows = range(len(images)) if rows is None else rows
    blank = np.zeros((image_size, image_size, images.channels), np.uint8)

    def masked_row(index: int) -> tuple[Row, np.bool_]:
        image = images[rows[index]] if index < len(rows) else None
        square = blank if image is None else centre_square(image, image_size)
        rng = np.random.default_rng(rows[index] if index < len(rows) else 0)
        return degradation.row(square, rng), np.bool_(image is not None)

    padded = -(-len(rows) // batch_size) * batch_size
    batches = in_batches(grain.MapDataset.range(padded).map(masked_row), batch_size, host, hosts)
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=BATCHES_AHEAD)
    yield from batches.to_iter_dataset(options)


def shard_size(batch_size: int) -> int:
    """Images of a shard of an evaluation, whole batches."""
    return -(-IMAGES_PER_SHARD // batch_size) * batch_size


def in_shards(
    batches: Iterator[tuple[Batch, Bool[np.ndarray, "b"]]], rows: range, batch_size: int
) -> Iterator[Iterator[tuple[int, Batch, Bool[np.ndarray, "b"]]]]:
    """Yields batches in one iterator for each shard, to be used up before the next; before each
    batch stands its first row.

    An evaluation adds up by shard, so that its sums are the same bits whether one process measures
    all shards or several measure some of them.

    Args:
        batches: of `eval_batches`.
        rows: that they are of, from the first of a shard on.
        batch_size: that of all hosts together.
    """
    numbered = ((first, *batch) for first, batch in zip(rows[::batch_size], batches, strict=True))
    for _ in range(0, len(rows), shard_size(batch_size)):
        yield islice(numbered, shard_size(batch_size) // batch_size)
