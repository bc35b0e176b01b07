"""Metrics and times between two log lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np


class Interval:
    """Collects the metrics of steps on the device, and what the loop spent its time on.

    Args:
        start: steps done before it.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self._metrics: list[Any] = []
        self.restart()

    def restart(self) -> None:
        """Leaves out of the speed what has passed so far."""
        self._began, self._waited, self._timed_from = time.perf_counter(), 0.0, len(self._metrics)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def add(self, metrics: Any) -> None:
        """Keeps a step's metrics on the device; waits for the step before, so that no more than two
        are under way.
        """
        if self._metrics:
            jax.block_until_ready(self._metrics[-1])
        self._metrics.append(metrics)

    def summary(self, done: int, batch_size: int) -> dict[str, Any]:
        """Means over the interval, images a second, the share of time spent waiting for data."""
        fetched = jax.device_get(self._metrics)
        seconds = time.perf_counter() - self._began
        means = jax.tree.map(lambda *values: np.mean(values, axis=0).tolist(), *fetched)
        timed = len(self._metrics) - self._timed_from
        speed = {
            "images_per_second": timed * batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        return {f"train/{name}": value for name, value in (means | speed).items()}
