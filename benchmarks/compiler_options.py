"""The training step on a CPU by what XLA hands to the YNN library; see `avq/cpu.py`.

python -m benchmarks.compiler_options [--json FILE] [--config=CONFIG --config.KEY=VALUE ...]
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from avq import config as configs
from avq import cpu, parallel
from avq.bench import PIXEL_VARIANCE, time_calls
from avq.train.system import build, make_step
from benchmarks.inputs import random_images

ROUNDS, RUNS = 4, 4
(OPTION,) = cpu.OPTIONS
PRODUCTS, SUMS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", "LIBRARY_FUSION_TYPE_REDUCE"
CHOICES: dict[str, dict[str, str]] = {
    "all (JAX's default)": {},
    "nothing": {OPTION: "LIBRARY_FUSION_TYPE_INVALID"},
    "products": {OPTION: PRODUCTS},
    "sums": {OPTION: SUMS},
    "products and sums": cpu.OPTIONS,
}


def measure(settings: list[str]) -> list[dict[str, Any]]:
    """Milliseconds of a step for every choice."""
    config = configs.load(settings)
    system, mesh = build(config), parallel.make_mesh(1)
    start = jax.jit(partial(system.init, 0, config.data.image_size))()
    images = parallel.place(random_images(config), mesh)
    with mock.patch.object(cpu, "compiler_options", return_value={}):
        step: Any = parallel.compile_step(make_step(system, config, PIXEL_VARIANCE), mesh)
    lowered = step.lower(start, images)
    calls = {}
    for library, options in CHOICES.items():
        compiled = lowered.compile(compiler_options=options)
        holder = [jax.tree.map(jnp.copy, start)]

        def call(compiled: Any = compiled, holder: list[Any] = holder) -> Any:
            holder[0], metrics = compiled(holder[0], images)
            return metrics

        calls[library] = call
    times: dict[str, list[float]] = {library: [] for library in calls}
    for _ in range(ROUNDS):  # in turns, so that a machine that drifts drifts for all
        for library, call in calls.items():
            times[library].append(time_calls(call, runs=RUNS, warm_up=1).median)
    rows = [{"library": name, "step_ms": float(np.median(ms))} for name, ms in times.items()]
    for row in rows:
        print(f"{row['library']:<22}{row['step_ms']:>9.1f} ms", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments, settings = parser.parse_known_args()
    settings = settings or ["--config=configs/ah_vqvae.py:tiny"]
    cpu.keep_memory()
    rows = measure(settings)
    if arguments.json:
        result = {"jax": jax.__version__, "config": settings, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
