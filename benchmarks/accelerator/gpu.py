"""What a GPU does with avq, in one command: whether its numbers are right, and how fast they come.

    python -m benchmarks.gpu --minutes N --json FILE [--data FACES] [--study PART ...]

Parts, in this order, and what each of their rows is of:

- `numerics`: a function in float32 or bfloat16 beside its formula in float64; a training step;
- `torch_twin`: training, encoding or decoding beside the PyTorch twin, eager or compiled;
- `systems`: training of a system by batch, precision and rematerialisation;
- `attention`: AH over H; dense or blockwise attention by number of tokens;
- `determinism`: bits of repeated steps, with and without `parallel.deterministic`, and its price;
- `training`: a short real run, its PSNR over time;
- `waiting`: share of the time spent waiting for images in memory, in a zip, in shards;
- `code_search`: a search of the nearest code.

A part begins its next row if that fits into the part's share of the minutes by what the last row
took; one that compiles a training step, by what the last such one took. A first row that compiles
none is always measured. The file is replaced after every row. What is not measured says why:
`skipped` of a part, `left_out` of some of its rows, `failed` or `left_out` of one row. On a CPU all
sizes are tiny and programs hardly optimised: there it is a trial of the command, whose times mean
nothing.
"""

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from avq import cpu, json_files, parallel
from avq.data.settings import Data
from avq.data.sources import open_path
from avq.errors import InputError
from avq.workers import usable_cores
from benchmarks._common import Row, make_parser, write_json
from benchmarks.accelerator import (
    determinism,
    kernels,
    numerics,
    short_run,
    systems,
    torch_twin,
    waiting,
)
from benchmarks.accelerator.parts import Part, Shared, run_part
from benchmarks.accelerator.sizes import TRIAL, Sizes, of_accelerator

# The twin comes before large batches: JAX keeps the memory that they needed.
PARTS = (
    Part("numerics", 18, numerics.cases),
    Part("torch_twin", 22, torch_twin.cases),
    Part("systems", 34, systems.cases),
    Part("attention", 6, kernels.attention_cases),
    Part("determinism", 10, determinism.cases),
    Part("training", 10, short_run.cases),
    Part("waiting", 3, waiting.cases),
    Part("code_search", 3, kernels.search_cases),
)


def sizes_of_device() -> Sizes:
    """Full sizes on an accelerator, those of a trial on a CPU."""
    if jax.default_backend() == "cpu":
        return TRIAL
    return of_accelerator((jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0))


def about_device() -> Row:
    """The device and versions, without which the numbers mean nothing."""
    device = jax.devices()[0]
    return {
        "device": parallel.device_in_words(parallel.make_mesh(1)),
        "platform": device.client.platform_version,
        "memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        "cores": usable_cores(),
        "python": platform.python_version(),
    }


def run(
    parts: Sequence[Part], shared: Shared, seconds: float, file: Path | None, about: Row
) -> list[Row]:
    """Runs all parts; each gets its share of the seconds that are left.

    Args:
        parts: in the order of their worth.
        shared: of the parts.
        seconds: for all of them.
        file: to write results to as they come; None for none.
        about: written before the parts.

    Returns:
        The results of `run_part`.
    """
    ends, results = shared.clock() + seconds, list[Row]()

    def write(part: Row) -> None:
        write_json(file, about | {"parts": [*results, part]})

    def on_row(part: Row) -> None:
        figures = (f"{key} {value}" for key, value in part["rows"][-1].items())
        print(part["name"], *figures, sep="  ", flush=True)
        write(part)

    for number, part in enumerate(parts):
        share = part.share / sum(later.share for later in parts[number:])
        result = run_part(part, shared, share * (ends - shared.clock()), on_row)
        for word in {"skipped", "left_out"} & result.keys():
            print(part.name, word, result[word], sep="  ", flush=True)
        write(result)
        results.append(result)
    return results


def main() -> None:
    began = time.monotonic()
    parser = make_parser(__doc__, studies=[part.name for part in PARTS])
    parser.add_argument("--minutes", type=float, default=8, metavar="N", help="default: 8")
    parser.add_argument("--data", default="photographs", metavar="PATH", help="images")
    arguments = parser.parse_args()
    if not arguments.minutes > 0:
        parser.error(f"--minutes {arguments.minutes:g} is no time. Give a positive number.")
    try:
        if arguments.json is not None:
            json_files.probe(arguments.json)
        open_path(Data(path=arguments.data))
    except (InputError, OSError) as error:
        parser.error(str(error))
    # JAX is to leave memory to PyTorch, but may take more than its default of three quarters.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # JAX refuses both
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.9")
    cpu.keep_memory()
    if jax.default_backend() == "cpu":
        jax.config.update("jax_disable_most_optimizations", True)
    about = about_device() | {"minutes": arguments.minutes, "data": arguments.data}
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    parts = [part for part in PARTS if part.name in arguments.study]
    shared = Shared(sizes_of_device(), arguments.data)
    # Keeps the initialisation of a system for its other batches; steps are compiled without it.
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        seconds = 60 * arguments.minutes - (time.monotonic() - began)
        run(parts, shared, seconds, arguments.json, about)


if __name__ == "__main__":
    main()
