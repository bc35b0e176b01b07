"""What limits a training step on an accelerator, on paper: operations and bytes of every stage.

    python -m benchmarks.roofline [--config CONFIG] [--json FILE]

Counted in the traced program of the step, both passes of both players: FLOPs of matrix products and
convolutions, and bytes as if each of them, and each sum, read its inputs and wrote its outputs once
while all else is fused into them. A card's least time for a stage is the larger of FLOPs over its
peak and bytes over its bandwidth: a bound that no program of these operations beats.
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
from avq.bench import PIXEL_VARIANCE, flops, operations
from avq.train.system import build, make_step

# Makers' data sheets: dense bfloat16 FLOP/s of the matrix units with float32 sums, bytes/s.
CARDS = {"H100 SXM": (989e12, 3.35e12), "RTX 3090": (71e12, 0.936e12)}
STAGES = ("attention", "base", "arens", "quantizers", "decoder", "Discriminator")
COUNTED = ("dot_general", "conv_general_dilated", "reduce_sum")


def stage_of(names: str) -> str:
    """Stage of an operation, from the modules that it was traced in; the first that fits."""
    return next((s for s in STAGES if s in names), "joins, losses, optimisers")


def count(settings: list[str]) -> tuple[dict[str, list[float]], int]:
    """FLOPs and bytes of a step by stage, and its batch size."""
    config = configs.load(settings)
    system, mesh = build(config), parallel.make_mesh(1)
    size, batch = config.data.image_size, config.data.batch_size
    state = jax.eval_shape(partial(system.init, 0, size))
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    step: Any = parallel.compile_step(make_step(system, config, PIXEL_VARIANCE), mesh)
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for operation, times, names in operations(step.trace(state, images).jaxpr.jaxpr):
        if operation.primitive.name in COUNTED:
            arrays: Any = [v.aval for v in (*operation.invars, *operation.outvars)]
            total = totals[stage_of(names)]
            total[0] += times * flops(operation)
            total[1] += times * sum(a.size * a.dtype.itemsize for a in arrays)
    return dict(totals), batch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/ah_vqvae.py")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    settings = [f"--config={arguments.config}", "--config.model.dtype=bfloat16"]
    totals, batch = count([*settings, "--config.data.path=photographs"])
    rows: list[dict[str, Any]] = []
    for stage, (work, moved) in sorted(totals.items(), key=lambda item: -item[1][0]):
        row = {"stage": stage, "gflops_per_image": work / batch / 1e9}
        row |= {"mb_per_image": moved / batch / 1e6, "flops_per_byte": work / moved}
        for card, (peak, bandwidth) in CARDS.items():
            row[card] = 1e3 * max(work / peak, moved / bandwidth) / batch
        rows.append(row)
    print(f"{'stage':<27}{'GFLOP':>10}{'MB':>9}{'FLOP/B':>8}" + "".join(f"{c:>14}" for c in CARDS))
    for row in rows:
        print(
            f"{row['stage']:<27}{row['gflops_per_image']:>10.2f}{row['mb_per_image']:>9.1f}"
            f"{row['flops_per_byte']:>8.0f}" + "".join(f"{row[c]:>11.3f} ms" for c in CARDS)
        )
    for card in CARDS:
        least = sum(row[card] for row in rows)
        print(f"{card}: at least {least:.2f} ms an image, at most {1e3 / least:,.0f} images/s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"batch": batch, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
