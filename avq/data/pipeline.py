"""Streams of batches.

Training batches are addressed by step: batch s is a pure function of the source, the seed and s,
whatever the number of threads, so a resumed run sees what an uninterrupted one would have seen.
"""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from jaxtyping import Bool, UInt8

from avq.data.dataset import Readable
from avq.data.images import centre_square, random_flip

Images = UInt8[np.ndarray, "b s s 3"]
THREADS = 2
BATCHES_AHEAD = 4


def train_batches(images: Readable, *, image_size: int, batch_size: int, seed: int) -> Any:
    """Endless training data: item s is the batch of step s. Every epoch is a new permutation;
    images are flipped at random.
    """

    def example(index: int, rng: np.random.Generator) -> np.ndarray:
        return random_flip(images.square(index, image_size, rng), rng)

    indices = grain.MapDataset.range(len(images)).seed(seed).shuffle().repeat()
    return indices.random_map(example).batch(batch_size, drop_remainder=True)


def prefetch(batches: Any, start: int) -> Iterator[Images]:
    """Batches from step `start` on, made ahead by threads. Close the iterator when done."""
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=BATCHES_AHEAD)
    return iter(batches[start:].to_iter_dataset(options))


def eval_batches(
    images: Readable, *, image_size: int, batch_size: int
) -> Iterator[tuple[Images, Bool[np.ndarray, "b"]]]:
    """Every readable image once, in order; the last batch is padded, and a mask says which rows are
    real.
    """

    def square(index: int) -> np.ndarray | None:
        image = images[index]
        return None if image is None else centre_square(image, image_size)

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * batch_size)
    rows: list[np.ndarray] = []
    for row in grain.MapDataset.range(len(images)).map(square).to_iter_dataset(options):
        rows.append(row)
        if len(rows) == batch_size:
            yield np.stack(rows), np.ones(batch_size, bool)
            rows = []
    if rows:
        mask = np.arange(batch_size) < len(rows)
        yield np.stack(rows + rows[:1] * (batch_size - len(rows))), mask
