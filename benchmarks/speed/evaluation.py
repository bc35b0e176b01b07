"""Evaluation with all metrics beside encoding and decoding alone, of the same images, in turns.

    python -m benchmarks.evaluation [--json FILE] [--runs N] [--config CONFIG]
        [--config.KEY=VALUE ...]

The model has its initial weights, the images are the test images of the config's data, 32 at a
time. Both read, encode and decode them; only the evaluation then measures. Peak memory is that of
the process after it has evaluated a quarter of the images twice, and after all of them.
"""

import resource
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from avq import cpu, parallel, tasks
from avq.bench import runnable_task
from avq.data.dataset import ImageSet, Summary
from avq.data.pipeline import eval_batches
from avq.data.settings import Data
from avq.data.sources.base import Subset
from avq.data.split import open_splits
from avq.evaluate.evaluation import Evaluator
from avq.pixels import to_float, to_uint8
from avq.settings import construct
from avq.trained import PLAYER
from benchmarks._common import make_parser, medians_in_turns, parse_with_config, write_json

BATCH = 32  # of `avq eval`


class Reconstructor:
    """Encodes and decodes a set of images."""

    def __init__(self, model: Any, mesh: Mesh) -> None:
        self.mesh = mesh
        self._reconstruct = jax.jit(
            lambda variables, images: to_uint8(model.apply(variables, to_float(images)).images),
            out_shardings=parallel.replicated(mesh),
            compiler_options=cpu.compiler_options(),
        )

    def __call__(self, variables: Mapping[str, Any], images: ImageSet, size: int) -> None:
        for batch, _ in eval_batches(images, image_size=size, batch_size=BATCH):
            sharded = parallel.shard_batch(batch["image"], self.mesh)
            jax.device_get(self._reconstruct(variables, sharded))


def peak_mebibytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Prints both times, their ratio, and peak memory."""
    arguments, config_arguments = parse_with_config(make_parser(__doc__, runs=3))
    cpu.keep_memory()
    config = tasks.load(config_arguments)
    task: Any = runnable_task(config)[0]
    mesh, size = parallel.make_mesh(), config.data.image_size
    images = ImageSet(open_splits(construct(Data, config.data.to_dict())).test)
    variables = task.init(PLAYER, jax.random.key(0))
    summary = Summary({"train": 0, "test": len(images)}, 0.0, 0.5, 0.25, size, 0)
    evaluator, reconstruct = Evaluator(task.model, mesh), Reconstructor(task.model, mesh)

    quarter = ImageSet(Subset(images.source, np.arange(len(images) // 4)))
    peaks = []
    for part in (quarter, quarter, images):  # the first pass fills what the process keeps
        reconstruct(variables, part, size)
        results = evaluator.evaluate(variables, part, summary, BATCH)
        peaks.append(peak_mebibytes())
    arrays = [results.rows, results.fingerprints, *results.per_image.values()]
    times = medians_in_turns(
        {
            "reconstruct": lambda: reconstruct(variables, images, size),
            "evaluate": lambda: evaluator.evaluate(variables, images, summary, BATCH),
        },
        rounds=arguments.runs,
        runs=2,
    )
    ratio = times["evaluate"] / times["reconstruct"]
    print(f"{len(images)} images of {size}x{size}, {', '.join(evaluator.metrics)}")
    for name, milliseconds in times.items():
        print(f"{name:<14}{milliseconds / len(images):8.3f} ms an image")
    print(f"ratio         {ratio:8.3f}")
    print(f"peak memory   {peaks[1]} MiB after a quarter of the images, {peaks[2]} MiB after all")
    kept = sum(array.nbytes for array in arrays) / len(results.rows)
    print(f"kept          {kept:.0f} bytes an image")
    write_json(
        arguments.json,
        {
            "images": len(images),
            "image_size": size,
            "ms": times,
            "ratio": ratio,
            "peak_mib": peaks[1:],
            "kept_bytes_per_image": kept,
        },
    )


if __name__ == "__main__":
    main()
