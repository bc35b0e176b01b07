"""Cost of saving a run: time of steps, size on disk, time to resume.

    python -m benchmarks.saving [--json FILE] [--steps N] [--config CONFIG]
        [--config.KEY=VALUE ...]

Steps without a save, with one in every ten steps written beside the steps that follow, as training
does it, and with the same saves waited for. A save copies the state and computes its checksums
before the next step may begin; that part is in both.
"""

import logging
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from avq import cpu, parallel, tasks
from avq.bench import Training
from avq.checkpoint import CHECKPOINTS, Checkpoints
from benchmarks._common import Row, make_parser, parse_with_config, random_training, write_json

EVERY, WARM_UP = 10, 5
NEVER, BESIDE, WAITING = WAYS = ("no saving", "beside the steps", "waited for")


def milliseconds_per_step(way: str, training: Training, run: Path, steps: int) -> float:
    """Mean milliseconds of a step with one of WAYS of saving."""
    for _ in range(WARM_UP):
        metrics = training.step()
    jax.block_until_ready(metrics)
    began = time.perf_counter()
    with Checkpoints(run, keep=2) as checkpoints:
        for done in range(1, steps + 1):
            jax.block_until_ready(training.step())
            if way != NEVER and done % EVERY == 0:
                checkpoints.save(done, training.state, {})
                if way == WAITING:
                    checkpoints.wait()
    return 1e3 * (time.perf_counter() - began) / steps


def restore_seconds(training: Training, run: Path) -> float:
    """Seconds to restore the newest checkpoint of a run."""
    sharding = parallel.replicated(training.mesh)
    target = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), training.state
    )
    began = time.perf_counter()
    with Checkpoints(run, read_only=True) as checkpoints:
        checkpoints.restore_newest(target)
    return time.perf_counter() - began


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=60, help=f"of each way; at least {EVERY}")
    arguments, settings = parse_with_config(parser)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax is verbose
    cpu.keep_memory()
    training = random_training(tasks.load([*settings, "--config.parallel.devices=1"]))
    initial = jax.tree.map(jnp.copy, training.state)
    result: Row = {"step_ms": {}}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            run = Path(folder, way)
            run.mkdir()
            training.state = jax.tree.map(jnp.copy, initial)
            result["step_ms"][way] = milliseconds_per_step(way, training, run, arguments.steps)
            print(f"{way:<18}{result['step_ms'][way]:>9.1f} ms a step", flush=True)
        newest = max((run / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
        size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
        result |= {"checkpoint_bytes": size, "restore_s": restore_seconds(training, run)}
    print(f"a checkpoint {size / 1e6:.1f} MB, restored in {result['restore_s']:.1f} s")
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
