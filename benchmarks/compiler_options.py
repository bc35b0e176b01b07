"""The training step on a CPU by what XLA hands to the YNN library; see `avq/cpu.py`.

python -m benchmarks.compiler_options [--json FILE] [--config=CONFIG --config.KEY=VALUE ...]
"""

import json
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from avq import config as configs
from avq import cpu, parallel
from avq.bench import PIXEL_VARIANCE
from avq.train.system import build, make_step
from benchmarks.inputs import random_images
from benchmarks.studies import medians_in_turns, settings_and_json

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
    medians = medians_in_turns(calls, rounds=4, runs=4)
    rows = [{"library": library, "step_ms": ms} for library, ms in medians.items()]
    for row in rows:
        print(f"{row['library']:<22}{row['step_ms']:>9.1f} ms", flush=True)
    return rows


def main() -> None:
    settings, json_file = settings_and_json()
    cpu.keep_memory()
    rows = measure(settings)
    if json_file:
        result = {"jax": jax.__version__, "config": settings, "rows": rows}
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
