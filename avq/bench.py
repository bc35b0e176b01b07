"""What a config costs on this machine: time, speed, operations, memory."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Times:
    """Milliseconds of repeated calls: median, and the quarter of them below and above."""

    median: float
    lower: float
    upper: float


def time_calls(call: Callable[[], Any], *, runs: int = 10, warm_up: int = 2) -> Times:
    """Times calls one by one, each until its result is there, after `warm_up` that do not count."""
    for _ in range(warm_up):
        jax.block_until_ready(call())
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - began))
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Times(median, lower, upper)
