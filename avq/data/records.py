"""Reads rows of a source as records of a prepared set, in worker processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from avq.data.duplicates import perceptual_hash
from avq.data.images import UnreadableImage, encode
from avq.data.sources import Source
from avq.data.views import centre_square
from avq.errors import InputError

CHUNK = 8  # rows that a worker takes at a time


@dataclass
class Record:
    """A prepared image.

    Attributes:
        name: of the image.
        content: bytes of the record.
        sums: of the pixels and of their squares, by channel.
        bits: perceptual hash.
    """

    name: str
    content: bytes
    sums: Int64[np.ndarray, "2 c"]
    bits: int


@dataclass
class Rejected:
    """An unreadable image."""

    name: str
    reason: str


Result: TypeAlias = Record | Rejected


@contextmanager
def record_reader(
    source: Source, size: int, workers: int
) -> Iterator[Callable[[Iterable[int]], Iterator[Result]]]:
    """Yields a function that reads rows of a source, in the same order.

    Args:
        source: of images.
        size: side of the squares, pixels.
        workers: processes that read; below 2, this one reads.

    Raises:
        InputError: when a worker process died.
    """
    if workers < 2:
        yield partial(map, _Reader(source, size))
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (source, size)
    )
    try:
        yield partial(pool.map, _read_in_worker, chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, perhaps for want of memory. Run the same command with fewer "
            "--workers; it resumes."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Reader:
    """Makes records of rows, in the process where it is called."""

    def __init__(self, source: Source, size: int) -> None:
        self.source, self.size = source, size

    def __call__(self, row: int) -> Result:
        name = self.source.name(row)
        try:
            square = centre_square(self.source[row], self.size)
        except UnreadableImage as error:
            return Rejected(name, str(error))
        pixels = square.reshape(-1, square.shape[-1]).astype(np.int64)
        sums = np.stack([pixels.sum(0), (pixels**2).sum(0)])
        return Record(name, encode(square, name), sums, perceptual_hash(square))


_reader: _Reader


def _start_worker(source: Source, size: int) -> None:
    global _reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _reader = _Reader(source, size)


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for more rows for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _read_in_worker(row: int) -> Result:
    return _reader(row)
