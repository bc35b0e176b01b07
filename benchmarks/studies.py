"""What studies share: their arguments, and calls timed in turns."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from avq.bench import time_calls


def settings_and_json() -> tuple[list[str], Path | None]:
    """Settings of a config, of `ah_vqvae:tiny` where none are given, and the file of `--json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments, settings = parser.parse_known_args()
    return settings or ["--config=configs/ah_vqvae.py:tiny"], arguments.json


def medians_in_turns(
    calls: dict[str, Callable[[], Any]], rounds: int, runs: int
) -> dict[str, float]:
    """Milliseconds of each call, `runs` a round and one that does not count; in turns, so that a
    machine that drifts drifts for all.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(time_calls(call, runs=runs, warm_up=1).median)
    return {name: float(np.median(values)) for name, values in times.items()}
