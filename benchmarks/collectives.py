"""What the devices tell one another in a training step, and what that costs, on paper.

    python -m benchmarks.collectives [--config CONFIG] [--json FILE]

Counted in the traced program of the step: every sum over devices, by what it is for. The times are
those of ring sums, `2 (n - 1) / n` of the bytes over a link's bandwidth, plus one latency for each
sum that cannot be merged with others: gradients wait for nothing but one another and are one sum;
each batch norm and each level's codebook waits for its own. Nothing is taken to overlap.
"""

import argparse
import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from avq import config as configs
from avq import parallel
from avq.bench import PIXEL_VARIANCE, operations
from avq.train.system import build, make_step

# Data sheets: NVLink 4, 450 GB/s each way; a 400 Gb/s network, 50 GB/s for each GPU. Latencies of a
# small sum, in seconds, are assumptions.
LINKS = {8: (450e9, 15e-6), 64: (50e9, 40e-6), 512: (50e9, 80e-6)}
KINDS = ("batch norm", "codebook", "gradients and metrics")


def kind_of(names: str) -> str:
    """What a sum is for, from the modules that it was traced in."""
    if "quantizer" in names:
        return KINDS[1]
    return KINDS[0] if "norm" in names else KINDS[2]


def count(settings: list[str]) -> dict[str, dict[str, float]]:
    """Sums and bytes of a step by kind."""
    config = configs.load(settings)
    system, mesh = build(config), parallel.make_mesh(2)
    size = config.data.image_size
    state = jax.eval_shape(partial(system.init, 0, size))
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)
    step: Any = parallel.compile_step(make_step(system, config, PIXEL_VARIANCE), mesh)
    totals: dict[str, dict[str, float]] = defaultdict(lambda: {"sums": 0, "bytes": 0})
    for operation, _, names in operations(step.trace(state, images).jaxpr.jaxpr):
        if operation.primitive.name.startswith("psum"):
            arrays: Any = [v.aval for v in operation.invars]
            total = totals[kind_of(names)]
            total["sums"] += 1
            total["bytes"] += sum(a.size * a.dtype.itemsize for a in arrays)
    return dict(totals)


def milliseconds(kind: str, total: dict[str, float], devices: int) -> float:
    """Of all sums of a kind."""
    bandwidth, latency = LINKS[devices]
    waits = 1 if kind == KINDS[2] else total["sums"]
    return 1e3 * (2 * (devices - 1) / devices * total["bytes"] / bandwidth + waits * latency)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/ah_vqvae.py")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    totals = count([f"--config={arguments.config}", "--config.data.path=photographs"])
    print(f"{'for':<24}{'sums':>6}{'MB':>9}" + "".join(f"{n:>10} GPUs" for n in LINKS))
    rows = []
    for kind in KINDS:
        times = {n: milliseconds(kind, totals[kind], n) for n in LINKS}
        rows.append({"for": kind, **totals[kind], "ms": times})
        print(
            f"{kind:<24}{totals[kind]['sums']:>6.0f}{totals[kind]['bytes'] / 1e6:>9.2f}"
            + "".join(f"{ms:>12.2f} ms" for ms in times.values())
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"config": arguments.config, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
