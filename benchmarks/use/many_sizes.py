"""Many images of many sizes, encoded and decoded: compilations, seconds and memory.

    python -m benchmarks.many_sizes --data PATH [--model NAME] [--images N] [--sizes N]
        [--json FILE]

The images are cut to sizes drawn between 40 and 256 pixels. avq, which computes them as squares of
a few sizes, stands beside an encoder and a decoder that are compiled for each size, continued to a
multiple of the stride. A row is of a process of its own without a compilation cache, from the
loaded model to the last image.
"""

import argparse
import itertools
import json
import resource
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from avq import cpu
from avq.apply.pictures import Pictures
from avq.apply.tiles import reflected
from avq.apply.tokenizer import Tokenizer, load
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8
from benchmarks._common import Row, child_result, make_parser, write_json

SMALLEST, LARGEST = 40, 256
COMPILED = "/jax/core/compile/backend_compile_duration"
OURS, EACH = "avq", "compiled for each size"


def cut(data: str, images: int, sizes: int) -> Iterator[np.ndarray]:
    """Images of a folder, cut to one of so many sizes; repeated where they are fewer."""
    rng = np.random.default_rng(0)
    shapes = rng.integers(SMALLEST, LARGEST + 1, (sizes, 2))
    pictures = itertools.islice(itertools.cycle(Pictures([data])), images)
    for pixels, (height, width) in zip(pictures, itertools.cycle(shapes), strict=False):
        yield pixels[:height, :width]


def each_size(model: Tokenizer, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Reconstructions by programs that are compiled for each size."""
    module: Any = model.trained.model
    compiled = partial(jax.jit, compiler_options=cpu.compiler_options("inference"))
    encode = compiled(lambda v, x: module.apply(v, x, method=VQVAE.encode))
    decode = compiled(lambda v, c: module.apply(v, c, method=VQVAE.decode))
    variables = jax.device_put(model.trained.variables)
    for image in images:
        height, width = image.shape[:2]
        whole = (-(-side // model.stride) * model.stride for side in (height, width))
        batch = reflected(to_float(image), *whole)[None]
        made = decode(variables, encode(variables, batch))
        yield to_uint8(np.asarray(made)[0, :height, :width])


def measure(system: str, data: str, name: str, images: int, sizes: int) -> Row:
    """Seconds, compilations and peak memory of one system."""
    compilations: list[float] = []

    def count(event: str, duration_secs: float, **_: Any) -> None:
        if event == COMPILED:
            compilations.append(duration_secs)

    jax.config.update("jax_enable_compilation_cache", False)
    model = load(name)
    pictures = list(cut(data, images, sizes))
    jax.monitoring.register_event_duration_secs_listener(count)
    began = time.perf_counter()
    reconstruct = Tokenizer.reconstruct_each if system == OURS else each_size
    done = sum(1 for _ in reconstruct(model, iter(pictures)))
    return {
        "images": done,
        "sizes": len({picture.shape for picture in pictures}),
        "seconds": time.perf_counter() - began,
        "compilations": len(compilations),
        "compiling_s": sum(compilations),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Prints a row of each system, and the ratio of their seconds."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument("--model", default="photos", metavar="NAME")
    parser.add_argument("--images", type=int, default=200, metavar="N")
    parser.add_argument("--sizes", type=int, default=50, metavar="N")
    parser.add_argument("--system", choices=(OURS, EACH), help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    if arguments.system:
        given = (arguments.data, arguments.model, arguments.images, arguments.sizes)
        print(json.dumps(measure(arguments.system, *given)))
        return
    rows = {system: child_result("--system", system) for system in (OURS, EACH)}
    for system, row in rows.items():
        print(system, *(f"{name} {value:.4g}" for name, value in row.items()), sep="  ")
    print(f"ratio {rows[EACH]['seconds'] / rows[OURS]['seconds']:.1f}")
    write_json(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
