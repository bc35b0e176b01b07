"""Metrics and times between two log lines."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from avq.train.step import StepMetrics

log = logging.getLogger(__name__)


class Diverged(Exception):
    """Losses or gradients are no longer finite; the message names the step and the values."""


class Interval:
    """Collects the metrics of steps on the device, and the time spent waiting for data.

    Args:
        start: steps done before it.
        may_skip: how many steps of the run may be left out for not being finite.
        values_of: values to log from the summed counts of the steps, see `Task.interval`.

    Attributes:
        began: when the clock was started, on `time.perf_counter`.
    """

    def __init__(
        self,
        start: int,
        may_skip: int = 0,
        values_of: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda counts: {},
    ) -> None:
        self.start, self.may_skip, self.values_of = start, may_skip, values_of
        self._metrics: list[StepMetrics | None] = []
        self.restart()

    def restart(self) -> None:
        """Restarts the clock, so that throughput excludes the time so far."""
        self.began, self._waited, self._timed_from = time.perf_counter(), 0.0, len(self._metrics)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time spent inside as waiting for data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def add(self, metrics: StepMetrics) -> None:
        """Keeps a step's metrics on the device; waits for the step before, so that no more than two
        are under way.

        Raises:
            Diverged: when the losses of the step before are not finite.
        """
        self.require_finite()
        self._metrics.append(metrics)

    def require_finite(self) -> None:
        """Waits for the newest step.

        Raises:
            Diverged: when its losses, or its gradients, are not finite, and it is not one of the
                few that may be left out.
        """
        newest = self._metrics[-1] if self._metrics else None
        if newest is None:
            return
        values = {name: float(value) for name, value in jax.device_get(newest.means).items()}
        if np.all(np.isfinite(list(values.values()))):
            return
        listed = ", ".join(f"{name} {value:.4g}" for name, value in sorted(values.items()))
        problem = f"step {self.start + len(self._metrics)} is not finite: {listed}."
        skipped = values.get("skipped", np.inf)
        if skipped > self.may_skip:
            raise Diverged(problem)
        log.warning("%s Left out, %d of at most %d.", problem, skipped, self.may_skip)
        self._metrics[-1] = None

    def summary(self, batch_size: int) -> dict[str, Any]:
        """Values to log: means of the metrics over the interval, values of the summed counts, and,
        of the steps since `restart` where there are any, images a second and the share of time
        spent waiting for data. Empty when all steps were left out.
        """
        fetched = jax.device_get([metrics for metrics in self._metrics if metrics is not None])
        if not fetched:
            return {}
        seconds = time.perf_counter() - self.began
        timed = len(self._metrics) - self._timed_from
        means = {
            name: float(np.mean([metrics.means[name] for metrics in fetched]))
            for name in fetched[0].means
        }
        counts = jax.tree.map(lambda *arrays: sum(arrays), *[m.counts for m in fetched])
        values = means | self.values_of(counts)
        if timed:
            values["images_per_second"] = timed * batch_size / seconds
            values["data_wait"] = self._waited / seconds
        return {f"train/{name}": value for name, value in values.items()}
