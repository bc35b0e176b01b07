"""What saving costs a run: time of steps, size on disk, time to resume.

    python -m benchmarks.saving [--json FILE] [--config=CONFIG --config.KEY=VALUE ...]

Sixty steps without a save, with one in every ten steps written beside the steps that follow, as
training does it, and with the same saves waited for. A save copies the state and sums it up before
the next step may begin; that part is in both.
"""

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from avq import config as configs
from avq import cpu, parallel
from avq.bench import PIXEL_VARIANCE
from avq.checkpoint import CHECKPOINTS, Checkpoints
from avq.train.system import build, make_step
from benchmarks.inputs import random_images
from benchmarks.studies import settings_and_json

STEPS, EVERY, WARM_UP = 60, 10, 5
WAYS = ("no saving", "beside the steps", "waited for")


def steps_ms(way: str, step: Any, start: Any, images: Any, run: Path) -> float:
    """Mean milliseconds of a step."""
    state = jax.tree.map(jnp.copy, start)
    for _ in range(WARM_UP):
        state, metrics = step(state, images)
    jax.block_until_ready(metrics)
    began = time.perf_counter()
    with Checkpoints(run, keep=2) as checkpoints:
        for done in range(1, STEPS + 1):
            state, metrics = step(state, images)
            jax.block_until_ready(metrics)
            if way != WAYS[0] and done % EVERY == 0:
                checkpoints.save(done, state, {})
                if way == WAYS[2]:
                    checkpoints.wait()
    return 1e3 * (time.perf_counter() - began) / STEPS


def main() -> None:
    settings, json_file = settings_and_json()
    config = configs.load(settings)
    cpu.keep_memory()
    system, mesh = build(config), parallel.make_mesh(1)
    init = partial(system.init, 0, config.data.image_size)
    start = parallel.everywhere(init, mesh)
    images = parallel.place(random_images(config), mesh)
    step = parallel.compile_step(make_step(system, config, PIXEL_VARIANCE), mesh)
    result: dict[str, Any] = {"jax": jax.__version__, "step_ms": {}}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            run = Path(folder, way)
            run.mkdir()
            result["step_ms"][way] = steps_ms(way, step, start, images, run)
            print(f"{way:<18}{result['step_ms'][way]:>9.1f} ms a step", flush=True)
        newest = run / CHECKPOINTS / str(STEPS)
        size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
        sharding = parallel.replicated(mesh)
        target = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), start
        )
        began = time.perf_counter()
        with Checkpoints(run, read_only=True) as checkpoints:
            checkpoints.restore_newest(target)
        result |= {"checkpoint_bytes": size, "restore_s": time.perf_counter() - began}
    print(f"a checkpoint {size / 1e6:.1f} MB, restored in {result['restore_s']:.1f} s")
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
