"""Training step on a CPU by the operations that XLA hands to the YNN library, and by their order;
see `avq/cpu.py`.

python -m benchmarks.compiler_options [--json FILE] [--runs N] [--config CONFIG]
    [--config.KEY=VALUE ...]
"""

import copy
from unittest import mock

import jax
import jax.numpy as jnp

from avq import cpu, tasks
from avq.bench import Training, runnable_task, trace_step
from benchmarks._common import (
    Row,
    make_parser,
    medians_in_turns,
    parse_with_config,
    random_batch,
    write_json,
)

OPTION = "xla_cpu_experimental_ynn_fusion_type"
PRODUCTS, SUMS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", "LIBRARY_FUSION_TYPE_REDUCE"
CHOICES: dict[str, dict[str, str]] = {
    "all (JAX's default)": {},
    "nothing": {OPTION: "LIBRARY_FUSION_TYPE_INVALID"},
    "products": {OPTION: PRODUCTS},
    "sums": {OPTION: SUMS},
    "products and sums": {OPTION: f"{PRODUCTS},{SUMS}"},
    "the same, in the order of least memory": cpu.OPTIONS,
}


def measure(settings: list[str], runs: int) -> list[Row]:
    """Milliseconds of a step for every choice."""
    config = tasks.load(settings)
    task, mesh = runnable_task(config)
    batch = random_batch(config)
    with mock.patch.object(cpu, "compiler_options", return_value={}):
        lowered = trace_step(task, mesh, batch).lower()
    training, calls = Training(task, mesh, batch), {}
    for library, options in CHOICES.items():
        variant = copy.copy(training)
        variant.compiled = lowered.compile(compiler_options=options)
        variant.state = jax.tree.map(jnp.copy, training.state)
        calls[library] = variant.step
    medians = medians_in_turns(calls, rounds=4, runs=runs)
    rows = [{"library": library, "step_ms": ms} for library, ms in medians.items()]
    for row in rows:
        print(f"{row['library']:<40}{row['step_ms']:>9.1f} ms", flush=True)
    return rows


def main() -> None:
    arguments, settings = parse_with_config(make_parser(__doc__, runs=4))
    cpu.keep_memory()
    write_json(arguments.json, {"config": settings, "rows": measure(settings, arguments.runs)})


if __name__ == "__main__":
    main()
