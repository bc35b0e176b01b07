"""The last part of `avq prepare` over many images: time and memory.

    python -m benchmarks.finish [--json FILE] [--images 10000000] [--study names search finish]

Images are simulated: a source that has names alone, and random perceptual hashes, of which one in
a thousand is near an image of the other side. `names` sorts names that come in no order, as the
listing of a folder; `search` is the search for near-duplicates alone, over files of hashes;
`finish` is `avq prepare --finish` over the shards, of one byte a record, and the notes that workers
have written. Each is a process of its own.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from avq.data import prepare as preparing
from avq.data.description import MAX_LISTED
from avq.data.duplicates import near_duplicates
from avq.data.prepare import prepare
from avq.data.records import Record
from avq.data.settings import Data
from avq.data.sources import SOURCES
from avq.data.sources.sorted_names import sorted_names
from avq.workers import Worker
from benchmarks._common import Row, child_result, make_parser, process_memory, write_json

STUDIES = ("names", "search", "finish")
KIND, SIZE, PLANTED, BLOCK = "simulated:", 8, 1000, 1 << 20


class Simulated:
    """A source of so many names; its images cannot be read."""

    augment = False

    def __init__(self, images: int) -> None:
        self._images = images

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def name(self, index: int) -> str:
        """A name as long as those in data sets are."""
        return f"folder/{index // 1000:06d}/{index:09d}.jpg"


def open_simulated(data: Data) -> Simulated | None:
    """Opens a path such as 'simulated:1000'."""
    return Simulated(int(data.path.removeprefix(KIND))) if data.path.startswith(KIND) else None


def hashes_of(rows: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Random bits by the number of an image (splitmix64); those of one in `PLANTED` differ from
    those of the image before in the lowest bit.
    """
    planted = rows % PLANTED == 1
    mixed = (rows - planted + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    hashes: np.ndarray = mixed ^ mixed >> np.uint64(31) ^ planted.astype(np.uint64)
    return hashes


@contextmanager
def simulated_reader(
    source: Simulated, size: int, workers: int
) -> Iterator[Callable[[Iterable[int]], Iterator[Record]]]:
    """Takes the place of `avq.data.records.record_reader`."""

    def read(rows: Iterable[int]) -> Iterator[Record]:
        rows = list(rows)
        bits = hashes_of(np.array(rows, np.uint64))
        for row, hashed in zip(rows, bits.tolist(), strict=True):
            yield Record(source.name(row), b"-", np.array([[9] * 3, [99] * 3]), hashed)

    yield read


def fill(folder: Path, study: str, images: int) -> None:
    """Writes what a study reads: files of hashes, a fifth of them on the right; or a set without
    its description.
    """
    if study == "finish":
        prepare(f"{KIND}{images}", folder / "set", size=SIZE, worker=Worker(0, 1))
    if study != "search":
        return
    for first in range(0, images, BLOCK):
        rows = np.arange(first, min(first + BLOCK, images), dtype=np.uint64)
        for name, chosen in (("left", rows % 5 != 1), ("right", rows % 5 == 1)):
            with (folder / name).open("ab") as file:
                hashes_of(rows[chosen]).tofile(file)


def measure(folder: Path, study: str, images: int) -> Row:
    """Seconds, growth of the process's memory, and pairs of near-duplicates."""
    before, began, pairs = process_memory("VmRSS"), time.perf_counter(), 0
    if study == "names":
        name = Simulated(images).name
        sorted_names(name(i * 7_368_787 % images) for i in range(images))
    elif study == "finish":
        about = prepare(f"{KIND}{images}", folder / "set", size=SIZE, finish=True)
        pairs = about["near_duplicates"]["pairs"]
    else:
        pairs = near_duplicates(folder / "left", folder / "right", folder, most=MAX_LISTED).pairs
    seconds = time.perf_counter() - began
    growth = (process_memory("VmHWM") - before) / 2**20
    return {
        "study": study,
        "images": images,
        "seconds": seconds,
        "growth_mb": growth,
        "pairs": pairs,
    }


def _print(row: Row) -> None:
    study, *values = row.items()
    print(f"{study[1]:7}", *(f" {name} {value:,.0f}" for name, value in values), flush=True)


def main() -> None:
    """Prints a line for each study."""
    parser = make_parser(__doc__, studies=STUDIES)
    parser.add_argument("--images", type=int, default=10**7)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # in this process
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    SOURCES["simulated"] = open_simulated
    patched: Any = preparing
    patched.record_reader = simulated_reader
    if arguments.folder:
        action = fill if arguments.fill else measure
        print(json.dumps(action(arguments.folder, arguments.study[0], arguments.images)))
        return
    rows = []
    for study in arguments.study:
        with tempfile.TemporaryDirectory() as folder:
            flags = "--folder", folder, "--study", study
            child_result(*flags, "--fill")
            rows.append(child_result(*flags))
        _print(rows[-1])
    write_json(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
