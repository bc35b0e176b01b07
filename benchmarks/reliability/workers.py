"""Several workers fill one folder: are the bytes those of one call, and how fast are they?

    python -m benchmarks.workers [--study kills evaluation throughput] [--json FILE]
        [--images 16000] [--kills 12] [--seed 0] [--rounds 2]

kills: `avq prepare --worker I/N` by 1, 3 and 8 workers at a time, over a generated folder of JPEGs.
Workers drawn by the seed are ended by SIGKILL, half of them at any time after their start and half
while they write a shard, and started again, one in four as two processes at once. Then `--finish`
is ended twice, and left to end. The folder is compared with that of one undisturbed call, as
`diff -r` does.

evaluation: the same of `avq eval --worker I/N` of the model that comes with avq, on a sixteenth of
the images. What is compared is the JSON of the measures.

throughput: images a second of two workers of one process each and the `--finish` after them, and of
one call with `--workers 2`, in turns; start-up is in both. Meant for two cores.
"""

import atexit
import filecmp
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from avq.workers import usable_cores
from benchmarks._common import Row, make_parser, write_json
from benchmarks.many_images import generate

CREWS = (1, 3, 8)  # numbers of workers
SIZE, MEASURES = 64, "eval.json"
FEWER = 16  # images in one that is evaluated
# Seconds, at most, of a kill after a start, by verb, and after a shard's.
LONGEST_WAIT, IN_A_SHARD = {"prepare": 6.0, "eval": 30.0}, 1.0
TWICE = 0.25  # share of starts that are of two processes
FINISH_KILLS, FINISH_WAIT = 2, 3.0
ALONE = {"prepare": ("--workers", "1"), "eval": ()}  # flags for one process a call


def arguments_of(verb: str, source: Path, target: Path) -> list[str]:
    """Arguments of a verb that fills a folder."""
    if verb == "prepare":
        return [verb, str(source), str(target), "--size", str(SIZE)]
    target.mkdir(exist_ok=True)
    images = ["--data", str(source), "--split", "all"]
    return [verb, "photos", *images, "--json", str(target / MEASURES)]


def start(verb: str, source: Path, target: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Starts `avq`, in a group of its own, which does not outlive this process."""
    command = [sys.executable, "-m", "avq.cli", *arguments_of(verb, source, target), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    atexit.register(kill, process)
    return process


def finished(*processes: subprocess.Popen[bytes]) -> None:
    """Waits for processes, all of which have to succeed."""
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("avq has failed by itself")


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Ends a process and its children by SIGKILL; False when it had ended by itself."""
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def alive(processes: list[subprocess.Popen[bytes]]) -> list[subprocess.Popen[bytes]]:
    """Those that have not ended."""
    return [process for process in processes if process.poll() is None]


class Crew:
    """Workers of one folder, which are killed."""

    def __init__(
        self, verb: str, source: Path, target: Path, count: int, rng: random.Random
    ) -> None:
        self.verb, self.count, self.rng = verb, count, rng
        self.target, self.places = target, (source, target)
        self.running = {index: self.started(index) for index in rng.sample(range(count), count)}
        self.landed: Counter[str] = Counter()

    def started(self, index: int) -> list[subprocess.Popen[bytes]]:
        """Starts a worker, at times two of its number."""
        flags = ("--worker", f"{index}/{self.count}", *ALONE[self.verb])
        copies = 2 if self.rng.random() < TWICE else 1
        return [start(self.verb, *self.places, *flags) for _ in range(copies)]

    def parts(self, index: int) -> list[Path]:
        """Files of shards that a worker has begun and not completed."""
        pattern = f"unfinished/worker-{index}-of-{self.count}/part-*"
        return [*self.target.glob(pattern), *self.target.glob(f"{MEASURES}.shards/{pattern}")]

    def disturb(self, aim_at_shard: bool) -> bool:
        """Kills a process of a worker, and starts the worker again unless another is at work;
        False when none is left.
        """
        working = [i for i, processes in self.running.items() if alive(processes)]
        if not working:
            return False
        index = self.rng.choice(working)
        until = time.monotonic() + self.rng.uniform(0, LONGEST_WAIT[self.verb])
        while time.monotonic() < until and alive(self.running[index]):
            if aim_at_shard and self.parts(index):
                time.sleep(self.rng.uniform(0, IN_A_SHARD))
                break
            time.sleep(0.005)
        if kill(self.rng.choice(alive(self.running[index]) or self.running[index])):
            self.landed["in a shard" if self.parts(index) else "elsewhere"] += 1
            self.running[index] = alive(self.running[index]) or self.started(index)
        return True

    def finish(self) -> None:
        """Waits for all workers, and kills `--finish`, before it is left to end."""
        finished(*(process for crew in self.running.values() for process in crew))
        for _ in range(FINISH_KILLS):
            process = start(self.verb, *self.places, "--finish")
            time.sleep(self.rng.uniform(0, FINISH_WAIT))
            self.landed["finish"] += kill(process)
        finished(start(self.verb, *self.places, "--finish"))


def differences(one: Path, other: Path) -> list[str]:
    """Names of files that only one of two folders has, or that differ in a byte."""
    files = (path for folder in (one, other) for path in folder.iterdir() if path.is_file())
    names = sorted({path.name for path in files})
    _, differ, missing = filecmp.cmpfiles(one, other, names, shallow=False)
    return differ + missing


def kills(verb: str, source: Path, folder: Path, images: int, wanted: int, seed: int) -> list[Row]:
    """Kills the workers of each crew `wanted` times, or until none is left."""
    rows: list[Row] = []
    one = folder / f"{verb} by one"
    finished(start(verb, source, one, *ALONE[verb]))
    print(f"{'workers':>8}{'in a shard':>12}{'elsewhere':>11}{'finish':>8}  differing files")
    for count in CREWS:
        target = folder / f"{verb} of {count}"
        crew = Crew(verb, source, target, count, random.Random(seed + count))
        while crew.landed.total() < wanted and crew.disturb(crew.rng.random() < 0.5):
            pass
        crew.finish()
        differ = differences(one, crew.target)
        rows.append({"workers": count, "images": images, **crew.landed, "differing": differ})
        cells = (crew.landed[place] for place in ("in a shard", "elsewhere", "finish"))
        print("{:>8}{:>12}{:>11}{:>8}  {}".format(count, *cells, differ or "none"), flush=True)
    return rows


def throughput(source: Path, folder: Path, images: int, rounds: int) -> Row:
    """Median images a second of two workers and of two processes of one call."""
    seconds: dict[str, list[float]] = {"two workers": [], "--workers 2": []}
    for turn in range(rounds):
        for name, times in seconds.items():
            target = folder / f"{name} {turn}"
            began = time.perf_counter()
            if name == "two workers":
                shares = (("--workers", "1", "--worker", f"{index}/2") for index in range(2))
                finished(*[start("prepare", source, target, *flags) for flags in shares])
                finished(start("prepare", source, target, "--finish"))
            else:
                finished(start("prepare", source, target, "--workers", "2"))
            times.append(time.perf_counter() - began)
    speeds = {name: images / float(np.median(times)) for name, times in seconds.items()}
    ratio = speeds["two workers"] / speeds["--workers 2"]
    print(*(f"{name}: {speed:,.0f} img/s" for name, speed in speeds.items()), sep="\n")
    print(f"ratio {ratio:.2f}, on {usable_cores()} cores", flush=True)
    return {"images_per_second": speeds, "ratio": ratio, "cores": usable_cores()}


def main() -> None:
    parser = make_parser(__doc__, studies=("kills", "evaluation", "throughput"))
    parser.add_argument("--images", type=int, default=16000, help="of 89x109 pixels")
    parser.add_argument("--kills", type=int, default=12, help="of each number of workers")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each of the two ways")
    arguments = parser.parse_args()
    result: Row = {"images": arguments.images}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        generate(source, arguments.images)
        drawn = arguments.kills, arguments.seed
        if "kills" in arguments.study:
            result["kills"] = kills("prepare", source, folder, arguments.images, *drawn)
        if "evaluation" in arguments.study:
            few, images = folder / "few", arguments.images // FEWER
            few.mkdir()
            generate(few, images)
            result["evaluation"] = kills("eval", few, folder, images, *drawn)
        if "throughput" in arguments.study:
            measured = throughput(source, folder, arguments.images, arguments.rounds)
            result["throughput"] = measured
    write_json(arguments.json, result)
    rows = result.get("kills", []) + result.get("evaluation", [])
    sys.exit(any(row["differing"] for row in rows))


if __name__ == "__main__":
    main()
