"""Training step of configs/ah_vqvae.py:tiny as batch, image side and number of devices grow.

    python -m benchmarks.scaling [--json FILE] [--runs N] [--study batch|side|devices|fsdp ...]

Host devices share the machine's cores, so more of them show the program's own overhead, not a gain.
"""

import jax

from avq import cpu, tasks
from avq.parallel import bytes_on_a_device
from benchmarks._common import Row, random_training, run_cases

CASES: list[Row] = [
    {"study": study, "batch": batch, "side": side, "devices": devices, "fsdp": study == "fsdp"}
    for study, batch, side, devices in (
        *(("batch", n, 64, 1) for n in (1, 2, 4, 8, 16, 32, 64)),
        *(("side", 1, n, 1) for n in (64, 128, 256, 512)),
        *(("devices", 8, 64, n) for n in (1, 2, 4, 8)),
        *(("fsdp", 8, 64, n) for n in (1, 2, 4, 8)),
    )
]


def measure(study: str, batch: int, side: int, devices: int, runs: int, fsdp: bool = False) -> Row:
    """Times one case; JAX must not have started, since its number of devices is fixed then."""
    jax.config.update("jax_num_cpu_devices", devices)
    cpu.keep_memory()
    config = tasks.load(
        [
            "--config=configs/ah_vqvae.py:tiny",
            f"--config.data.batch_size={batch}",
            f"--config.data.image_size={side}",
            f"--config.parallel.devices={devices}",
            f"--config.parallel.fsdp={fsdp}",
        ]
    )
    training = random_training(config)
    state = bytes_on_a_device(training.state)
    report = training.measure(runs)
    return {
        "step_ms": round(report["train"]["step_ms"], 1),
        "images_per_s": round(report["train"]["images_per_s"], 1),
        "peak_memory_bytes": report["peak_memory_bytes"],
        "state_bytes": state,
    }


if __name__ == "__main__":
    run_cases(__doc__, CASES, measure, study="study", runs=10)
