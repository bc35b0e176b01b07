"""Images that a task trains and is evaluated on."""

from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import jax

from avq.data.dataset import Dataset, ImageSet
from avq.data.pipeline import THREADS, prefetch, train_batches
from avq.data.settings import Data
from avq.data.views import Degradation
from avq.errors import InputError
from avq.train.task import Batch, Batches


class ImageData:
    """Images of a run, see `avq.train.task.TaskData`."""

    def __init__(self, dataset: Dataset, data: Data, degradation: Degradation, seed: int) -> None:
        self.dataset, self._data, self._seed = dataset, data, seed
        self._degradation = degradation

    @property
    def summary(self) -> Mapping[str, Any]:
        """Content of `dataset.json`."""
        return asdict(self.dataset.summary)

    def batches(self, start: int) -> Batches:
        """This process's part of every batch from step `start` on."""
        host, hosts = jax.process_index(), jax.process_count()
        order = train_batches(
            self.dataset.train,
            self._data,
            seed=self._seed,
            degradation=self._degradation,
            host=host,
            hosts=hosts,
        )
        return closing(prefetch(order, start, self._data.workers))


def closing(stream: Any) -> Generator[Batch, None, None]:
    """The batches of a Grain iterator, which is closed with this one.

    Raises:
        ChildProcessError: when one of Grain's processes has died.
    """
    try:
        while True:
            yield next(stream)
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise ChildProcessError(
            f"one of the data.workers has died: {str(error).partition('.')[0]}. It may have been "
            "out of memory. The same command continues."
        ) from error
    finally:
        stream.close()


def require_readable(images: ImageSet) -> None:
    """Decodes all images, so that too many unreadable ones are known before the first step.

    Raises:
        InputError: listing the unreadable images.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        readable = pool.map(lambda index: images[index] is not None, range(len(images)))
        try:
            for _ in readable:
                pass
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
