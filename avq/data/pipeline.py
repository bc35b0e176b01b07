"""Streams of batches.

Training batches are addressed by step: batch s is a pure function of the source, the seed and s,
whatever the number of threads, worker processes and hosts, so a resumed run sees what an
uninterrupted one would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Bool, UInt8

from avq.data.dataset import Readable
from avq.data.images import centre_square, random_flip

Images = UInt8[np.ndarray, "b s s 3"]
THREADS = 2
BATCHES_AHEAD = 4


class _HostRows:
    """Of rows in batches, those that one host feeds to its devices."""

    def __init__(self, rows: Any, batch_size: int, host: int, hosts: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.count = batch_size // hosts
        self.first = host * self.count

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size * self.count

    def __getitem__(self, index: int) -> Any:
        batch, row = divmod(index, self.count)
        return self.rows[batch * self.batch_size + self.first + row]


@dataclass
class _RandomView:
    """From an index and its random generator to a training image."""

    images: Readable
    size: int
    min_crop: float
    flip: bool

    def __call__(self, index: int, rng: np.random.Generator) -> np.ndarray:
        square = self.images.square(index, self.size, rng, self.min_crop)
        return random_flip(square, rng) if self.flip else square


def _in_batches(rows: Any, batch_size: int, host: int, hosts: int) -> Any:
    mine = _HostRows(rows, batch_size, host, hosts)
    return grain.MapDataset.source(mine).batch(mine.count, drop_remainder=True)


def train_batches(images: Readable, data: Any, *, seed: int, host: int = 0, hosts: int = 1) -> Any:
    """Endless training data: item s is the batch of step s. Every epoch is a new permutation.

    Args:
        images: to train on.
        data: the config's section, for `image_size`, `batch_size` (over all hosts), `min_crop` and
            `flip`.
        seed: of permutations and views.
        host: which part of every batch is wanted, 0 to `hosts - 1`.
        hosts: number of equal parts that a batch consists of.
    """
    view = _RandomView(images, data.image_size, data.min_crop, data.flip)
    indices = grain.MapDataset.range(len(images)).seed(seed).shuffle().repeat()
    return _in_batches(indices.random_map(view), data.batch_size, host, hosts)


def prefetch(batches: Any, start: int, workers: int = 0) -> Iterator[Images]:
    """Batches from step `start` on, made ahead by threads, of this process or of `workers`
    others. Close the iterator when done.
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
    images: Readable, *, image_size: int, batch_size: int, host: int = 0, hosts: int = 1
) -> Iterator[tuple[Images, Bool[np.ndarray, "b"]]]:
    """Every image once, in order, at the same place whatever can be read; a mask says which rows
    are readable images and not padding.
    """
    blank = np.zeros((image_size, image_size, 3), np.uint8)

    def square(index: int) -> tuple[np.ndarray, np.bool_]:
        image = images[index] if index < len(images) else None
        if image is None:
            return blank, np.False_
        return centre_square(image, image_size), np.True_

    padded = -(-len(images) // batch_size) * batch_size
    batches = _in_batches(grain.MapDataset.range(padded).map(square), batch_size, host, hosts)
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=BATCHES_AHEAD)
    yield from batches.to_iter_dataset(options)
