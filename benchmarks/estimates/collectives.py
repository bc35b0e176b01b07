"""Communication cost of a training step (estimate): sums over devices, bytes and time.

    python -m benchmarks.collectives [--json FILE] [--config CONFIG] [--config.KEY=VALUE ...]

Every sum over devices in the traced step is counted, by its purpose. The times are those of ring
sums, `2 (n - 1) / n` of the bytes over a link's bandwidth, plus one latency for each sum that
cannot be merged with others: gradients wait for nothing but one another and are one sum; each batch
norm and each level's codebook waits for its own. No overlap is assumed.
"""

from collections import defaultdict

import jax

from avq import bench, parallel, tasks
from avq.program import array_bytes, operations
from benchmarks._common import Row, make_parser, parse_with_config, random_batch, write_json

# Data sheets: NVLink 4, 450 GB/s each way; a 400 Gb/s network, 50 GB/s for each GPU. Latencies of a
# small sum, in seconds, are assumptions.
LINKS = {8: (450e9, 15e-6), 64: (50e9, 40e-6), 512: (50e9, 80e-6)}
KINDS = ("batch norm", "codebook", "gradients and metrics")


def kind_of(scope: str) -> str:
    """Purpose of a sum, from the modules that it was traced in."""
    if "quantizer" in scope:
        return KINDS[1]
    return KINDS[0] if "norm" in scope else KINDS[2]


def count_sums(settings: list[str]) -> dict[str, dict[str, int]]:
    """Number and bytes of a step's sums over devices, by kind; on each device."""
    config = tasks.load([*settings, "--config.data.batch_size=2"])  # changes no sum
    task, mesh = tasks.make_task(config), parallel.make_mesh(2)
    traced = bench.trace_step(task, mesh, random_batch(config))
    totals: dict[str, dict[str, int]] = defaultdict(lambda: {"sums": 0, "bytes": 0})
    for operation in operations(traced.jaxpr.jaxpr):
        if operation.equation.primitive.name.startswith("psum"):
            total = totals[kind_of(operation.scope)]
            total["sums"] += 1
            total["bytes"] += array_bytes(operation.equation.invars)
    return dict(totals)


def milliseconds(kind: str, total: dict[str, int], devices: int) -> float:
    """Time of all sums of a kind."""
    bandwidth, latency = LINKS[devices]
    waits = 1 if kind == KINDS[2] else total["sums"]
    return 1e3 * (2 * (devices - 1) / devices * total["bytes"] / bandwidth + waits * latency)


def main() -> None:
    arguments, settings = parse_with_config(make_parser(__doc__), "configs/ah_vqvae.py")
    jax.config.update("jax_num_cpu_devices", 2)
    totals = count_sums(settings)
    rows: list[Row] = []
    print(f"{'for':<24}{'sums':>6}{'MB':>9}" + "".join(f"{n:>10} GPUs" for n in LINKS))
    for kind in KINDS:
        times = {n: milliseconds(kind, totals[kind], n) for n in LINKS}
        rows.append({"for": kind, **totals[kind], "ms": times})
        print(
            f"{kind:<24}{totals[kind]['sums']:>6}{totals[kind]['bytes'] / 1e6:>9.2f}"
            + "".join(f"{ms:>12.2f} ms" for ms in times.values())
        )
    write_json(arguments.json, {"config": settings, "rows": rows})


if __name__ == "__main__":
    main()
