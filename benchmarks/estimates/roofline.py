"""Roofline of a training step on accelerators (estimate): operations and bytes of every stage.

    python -m benchmarks.roofline [--json FILE] [--config CONFIG] [--config.KEY=VALUE ...]

Counted in the traced step, both passes of both players, in bfloat16: FLOPs of matrix products and
convolutions, and bytes as if each of them, and each sum, read its inputs and wrote its outputs once
while all else is fused into them. The least time of a stage on a card is the larger of FLOPs over
its peak and bytes over its bandwidth: a bound that no program of these operations beats.
"""

from collections import defaultdict

from avq import bench, parallel, tasks
from avq.program import array_bytes, flops, operations
from benchmarks._common import Row, make_parser, parse_with_config, random_batch, write_json

# Makers' data sheets: dense bfloat16 FLOP/s of the matrix units with float32 sums, bytes/s.
CARDS = {"H100 SXM": (989e12, 3.35e12), "RTX 3090": (71e12, 0.936e12)}
STAGES = ("attention", "base", "arens", "quantizers", "decoder", "Discriminator")
COUNTED = ("dot_general", "conv_general_dilated", "reduce_sum")


def stage_of(scope: str) -> str:
    """Stage of an operation, the first whose name is in the modules that it was traced in."""
    return next((s for s in STAGES if s in scope), "joins, losses, optimisers")


def count_work(settings: list[str]) -> tuple[dict[str, list[float]], int]:
    """FLOPs and bytes of a step by stage, and its batch size."""
    config = tasks.load(settings)
    task, mesh = tasks.make_task(config), parallel.make_mesh(1)
    traced = bench.trace_step(task, mesh, random_batch(config))
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for equation, repeats, scope in operations(traced.jaxpr.jaxpr):
        if equation.primitive.name in COUNTED:
            total = totals[stage_of(scope)]
            total[0] += repeats * flops(equation)
            total[1] += repeats * array_bytes((*equation.invars, *equation.outvars))
    return dict(totals), task.batch_size


def rows_of(totals: dict[str, list[float]], batch_size: int) -> list[Row]:
    """A row for each stage, the one with most FLOPs first; times are milliseconds an image."""
    rows = []
    for stage, (work, moved) in sorted(totals.items(), key=lambda item: -item[1][0]):
        row: Row = {"stage": stage, "gflops_per_image": work / batch_size / 1e9}
        row |= {"mb_per_image": moved / batch_size / 1e6, "flops_per_byte": work / moved}
        for card, (peak, bandwidth) in CARDS.items():
            row[card] = 1e3 * max(work / peak, moved / bandwidth) / batch_size
        rows.append(row)
    return rows


def main() -> None:
    arguments, settings = parse_with_config(make_parser(__doc__), "configs/ah_vqvae.py")
    totals, batch_size = count_work([*settings, "--config.model.dtype=bfloat16"])
    rows = rows_of(totals, batch_size)
    print(f"{'stage':<27}{'GFLOP':>10}{'MB':>9}{'FLOP/B':>8}" + "".join(f"{c:>14}" for c in CARDS))
    for row in rows:
        print(
            f"{row['stage']:<27}{row['gflops_per_image']:>10.2f}{row['mb_per_image']:>9.1f}"
            f"{row['flops_per_byte']:>8.0f}" + "".join(f"{row[c]:>11.3f} ms" for c in CARDS)
        )
    for card in CARDS:
        least = sum(row[card] for row in rows)
        print(f"{card}: at least {least:.2f} ms an image, at most {1e3 / least:,.0f} images/s")
    write_json(arguments.json, {"batch": batch_size, "rows": rows})


if __name__ == "__main__":
    main()
