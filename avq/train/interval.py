"""Metrics and times between two log lines."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

log = logging.getLogger(__name__)


class Diverged(Exception):
    """Losses or gradients are no longer finite; the message says of which step, and gives them."""


class Interval:
    """Collects the metrics of steps on the device, and what the loop spent its time on.

    Args:
        start: steps done before it.
        may_skip: how many steps of the run may be left out for not being finite.
    """

    def __init__(self, start: int, may_skip: int = 0) -> None:
        self.start, self.may_skip = start, may_skip
        self._metrics: list[Any] = []
        self.restart()

    def restart(self) -> None:
        """Leaves out of the speed what has passed so far."""
        self._began, self._waited, self._timed_from = time.perf_counter(), 0.0, len(self._metrics)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for the images of a batch."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def add(self, metrics: Any) -> None:
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
        if not self._metrics or self._metrics[-1] is None:
            return
        scalars = {k: v for k, v in self._metrics[-1].items() if v.ndim == 0}
        values = {name: float(value) for name, value in jax.device_get(scalars).items()}
        if np.all(np.isfinite(list(values.values()))):
            return
        told = ", ".join(f"{name} {value:.4g}" for name, value in sorted(values.items()))
        problem = f"step {self.start + len(self._metrics)} is not finite: {told}."
        skipped = values.get("skipped", np.inf)
        if skipped > self.may_skip:
            raise Diverged(problem)
        log.warning("%s Left out, %d of at most %d.", problem, skipped, self.may_skip)
        self._metrics[-1] = None

    def summary(self, done: int, batch_size: int) -> dict[str, Any]:
        """Means over the interval, the share of codes of each level that were used in it, images a
        second, and the share of time spent waiting for data; nothing when all steps were left out.
        """
        fetched = jax.device_get([metrics for metrics in self._metrics if metrics is not None])
        if not fetched:
            return {}
        counts = sum(metrics.pop("code_counts") for metrics in fetched)
        seconds = time.perf_counter() - self._began
        means = jax.tree.map(lambda *values: np.mean(values, axis=0).tolist(), *fetched)
        timed = len(self._metrics) - self._timed_from
        others = {
            "usage": np.mean(counts > 0, axis=-1).tolist(),
            "images_per_second": timed * batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        return {f"train/{name}": value for name, value in (means | others).items()}
