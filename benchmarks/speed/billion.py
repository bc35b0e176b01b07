"""Training on a prepared set of a billion images: time to start, and memory.

    python -m benchmarks.billion [--json FILE] [--images 1000000000]

The set is simulated: `dataset.json` counts all shards, of 1,024 images each, and their files are
hard links to a few. A process of its own opens it and reads batches, as training does; beside it
stands a listing of the folder, which a set of image files would need.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from avq.data.dataset import MOST_NAMES, open_dataset
from avq.data.names import to_text
from avq.data.pipeline import prefetch, train_batches
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources.prepared import DESCRIPTION, shard_file
from benchmarks._common import Row, child_result, make_parser, process_memory, write_json
from benchmarks.speed.many_images import generate

PER_SHARD, SIDE, BATCH, BATCHES = 1024, 64, 32, 100
MOST_LINKS = 30_000  # to one file; file systems allow 32,000 and more


def simulate(folder: Path, images: int) -> None:
    """Fills a folder with so many images, nearly all of them to train on."""
    source, prepared = folder / "source", folder / "prepared"
    source.mkdir()
    generate(source, PER_SHARD)
    description = prepare(str(source), prepared, size=SIDE, split=1 - 1 / PER_SHARD, workers=1)
    made = max(prepared.glob("train-*"), key=lambda path: path.stat().st_size).read_bytes()
    for path in prepared.iterdir():
        path.unlink()
    count = description["shards"]["train"][0]
    totals = {"train": images // count, "test": 1}
    for split, total in totals.items():
        for number in range(total):
            path = prepared / shard_file(split, number, total)
            if number % MOST_LINKS == 0:
                path.write_bytes(made)
                first = path
            else:
                path.hardlink_to(first)
    shards = {split: [count] * total for split, total in totals.items()}
    counts = {split: sum(each) for split, each in shards.items()}
    about = description | {"shards": shards, "counts": counts, "name_hashes": name_hashes(counts)}
    (prepared / DESCRIPTION).write_text(json.dumps(about))


def name_hashes(counts: Mapping[str, int]) -> dict[str, str]:
    """Random ones, as `avq prepare` keeps them of a set that is not too large."""
    if sum(counts.values()) > MOST_NAMES:
        return {}
    rng = np.random.default_rng(0)
    return {
        split: to_text(rng.integers(0, 1 << 64, count, np.uint64))
        for split, count in counts.items()
    }


def measure(folder: str) -> Row:
    """Seconds to open a set and to its first batch, images a second after it, and memory."""
    data = Data(path=folder, image_size=SIDE, batch_size=BATCH)
    jnp.zeros(()).block_until_ready()  # JAX's own start is not the set's
    before, began = process_memory("VmRSS"), time.perf_counter()
    train = open_dataset(data).train
    opened = time.perf_counter()
    stream = prefetch(train_batches(train, data, seed=0), 0)
    next(stream)
    first = time.perf_counter()
    for _ in range(BATCHES):
        next(stream)
    row = {
        "images": len(train),
        "open_s": opened - began,
        "first_batch_s": first - opened,
        "images_per_s": BATCH * BATCHES / (time.perf_counter() - first),
        "peak_growth_mb": (process_memory("VmHWM") - before) / 2**20,
        "open_files": len(os.listdir("/proc/self/fd")),
    }
    stream.close()
    return row


def main() -> None:
    """Prints what the simulated set takes, and what a listing of its folder does."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=10**9)
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure(arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), arguments.images)
        row = child_result("--folder", str(Path(folder, "prepared")))
        began = time.perf_counter()
        row["shards"] = sum(1 for _ in os.scandir(Path(folder, "prepared"))) - 1
        row["listing_s"] = time.perf_counter() - began
    print("  ".join(f"{name} {value:,.1f}" for name, value in row.items()))
    write_json(arguments.json, row)


if __name__ == "__main__":
    main()
