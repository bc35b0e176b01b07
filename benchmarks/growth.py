"""What a training step of configs/ah_vqvae.py:tiny costs as batch, image side and devices grow.

    python -m benchmarks.growth --json FILE [--study NAME ...]

Host devices share the machine's cores, so more of them show the program's own overhead, not a gain.
Every row is measured in a process of its own: the number of devices is fixed when JAX starts, and
the peak of memory counts from there.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from avq import bench
from avq import config as configs

Case = tuple[int, int, int]  # batch, side in pixels, devices

STUDIES: dict[str, list[Case]] = {
    "batch": [(batch, 64, 1) for batch in (1, 2, 4, 8, 16, 32, 64)],
    "side": [(1, side, 1) for side in (64, 128, 256, 512)],
    "devices": [(8, 64, devices) for devices in (1, 2, 4, 8)],
}


def measure(case: Case) -> dict[str, Any]:
    """One row, in this process; JAX must not have started."""
    batch, side, devices = case
    jax.config.update("jax_num_cpu_devices", devices)
    config = configs.load(
        [
            "--config=configs/ah_vqvae.py:tiny",
            f"--config.data.batch_size={batch}",
            f"--config.data.image_size={side}",
            f"--config.parallel.devices={devices}",
        ]
    )
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    system, mesh = bench.checked(config)
    report = bench.Training(config, system, mesh).measure(images, runs=10)
    return {
        "batch": batch,
        "side": side,
        "devices": devices,
        "device": bench.device_in_words(mesh),
        **report.pop("train"),
        **report,
    }


def in_child(case: Case) -> dict[str, Any]:
    """`measure`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--case", *map(str, case)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--case", nargs=3, type=int, help="print this row alone, as JSON")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(tuple(arguments.case))))
        return
    print(f"{'study':<9}{'batch':>6}{'side':>6}{'devices':>9}{'ms':>10}{'images/s':>10}{'MiB':>9}")
    rows = []
    for study in arguments.study:
        for case in STUDIES[study]:
            row = {"study": study, **in_child(case)}
            rows.append(row)
            memory = row["peak_memory_bytes"] / 2**20
            print(
                f"{study:<9}{row['batch']:>6}{row['side']:>6}{row['devices']:>9}"
                f"{row['step_ms']:>10.1f}{row['images_per_s']:>10.1f}{memory:>9.1f}",
                flush=True,
            )
            if arguments.json:
                result = {"jax": jax.__version__, "rows": rows}
                arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
