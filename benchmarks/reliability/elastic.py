"""Killed training runs that go on with other numbers of devices and processes.

    python -m benchmarks.elastic [--json FILE] [--every 2] [--config=NAME --config.KEY=VALUE ...]

A config, `configs/ah_vqvae.py:tiny` by default, trains by two processes of one device each, which
SIGKILL ends; goes on as one process of four devices, which is killed, too; and ends as one process
of one device. Each of the three begins at a checkpoint, trains for `--every` steps, saves, and is
killed at least one step later. Devices are those of the CPU backend.

Every process notes a checksum of each image of its part of each batch. Those of all steps, also of
steps that were repeated, are compared with those of an undisturbed run of one device: the position
in the data is exact when none differs. So are the leaves of the final state, as `benchmarks.
invariance` does: the largest difference relative to the leaf's largest entry plus 1e-4. What
rounding alone does, and training amplifies, is shown by an undisturbed run of four devices.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from avq import main as training
from avq import tasks
from avq.checkpoint import CHECKPOINTS, Checkpoints
from avq.train.task import Batch, Task
from benchmarks._common import Row, make_parser, own_command, parse_with_config, write_json
from benchmarks.invariance import Arrays, compare, free_port

QUANTITIES = ("params", "batch_stats", "codebook")
MEASURES = ("eval/psnr", "train/reconstruction")


class Stage(NamedTuple):
    """How a run is trained until it is killed, or to its end."""

    processes: int
    devices: int  # of a process
    checkpoints: int | None = None  # those of a run after which it is killed

    def __str__(self) -> str:
        return f"{self.processes}x{self.devices}"


RUNS = {
    "undisturbed": [Stage(1, 1)],
    "4 devices": [Stage(1, 4)],
    "elastic": [Stage(2, 1, checkpoints=1), Stage(1, 4, checkpoints=2), Stage(1, 1)],
}


def train(devices: int, batches: str, arguments: Sequence[str]) -> int:
    """Trains in this process, where JAX must not have started; see `avq.main`.

    Args:
        devices: of this process.
        batches: file for the checksums of the images that it gets.
        arguments: of the training.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    make_task = tasks.make_task
    tasks.make_task = lambda loaded: watched(make_task(loaded), Path(batches))
    return training.main(arguments)


def watched(task: Task, file: Path) -> Task:
    """The task, whose batches leave their checksums in a file."""
    open_data = task.open_data

    def opened(known: Any) -> Any:
        data: Any = open_data(known)
        batches = data.batches
        data.batches = lambda start: noted(batches(start), start, file)
        return data

    task.open_data = opened  # type: ignore[method-assign]
    return task


def noted(batches: Any, start: int, file: Path) -> Iterator[Batch]:
    """The batches from a step on; each leaves a line, its step and a checksum of each image."""
    try:
        with file.open("a", buffering=1) as lines:
            for step, batch in enumerate(batches, start):
                sums = [zlib.crc32(image.tobytes()) for image in batch["image"]]
                print(step, *sums, file=lines)
                yield batch
    finally:
        batches.close()


class Run:
    """A run in a folder."""

    def __init__(self, folder: Path, config: Sequence[str], every: int) -> None:
        self.folder, self.every, self.steps = folder, every, 3 * every
        self.batches: list[tuple[int, tuple[int, ...]]] = []  # step and checksums
        settings = {
            "train.steps": self.steps,
            "train.log_every": 1,
            "train.eval_every": self.steps,
            "checkpoint.every": every,
        }
        overrides = [f"--config.{key}={value}" for key, value in settings.items()]
        self.arguments = [*config, *overrides, f"--workdir={folder}"]

    def advance(self, stage: Stage) -> None:
        """Trains as a stage says.

        Raises:
            SystemExit: when a process fails by itself.
        """
        port = free_port()
        notes, processes = [], []
        for index in range(stage.processes):
            notes.append(self.folder.with_name(f"{self.folder.name}-{port}-{index}"))
            flag = [f"--distributed=127.0.0.1:{port},{stage.processes},{index}"]
            case = {
                "devices": stage.devices,
                "batches": str(notes[-1]),
                "arguments": self.arguments + (flag if stage.processes > 1 else []),
            }
            command = own_command("--process", json.dumps(case))
            with notes[-1].with_suffix(".log").open("w") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        try:
            while any(process.poll() is None for process in processes):
                if self.is_beyond(stage.checkpoints):
                    break
                for process, note in zip(processes, notes, strict=True):
                    if process.poll():
                        log_text = note.with_suffix(".log").read_text()
                        raise SystemExit(f"A process of {stage} has failed:\n{log_text}")
                time.sleep(0.01)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        self.batches += joined([lines_of(file) for file in notes])

    def is_beyond(self, checkpoints: int | None) -> bool:
        """Whether a number of checkpoints are complete, and a step after them, too."""
        if checkpoints is None or (self.newest() or 0) < checkpoints * self.every:
            return False
        return bool(self.records()[-1]["step"] > checkpoints * self.every)

    def newest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        names = (folder.name for folder in (self.folder / CHECKPOINTS).glob("*"))
        return max((int(name) for name in names if name.isdecimal()), default=None)

    def records(self) -> list[Row]:
        """Complete lines of metrics.jsonl."""
        file = self.folder / "metrics.jsonl"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        return [json.loads(line) for line in lines]

    def state(self) -> Arrays:
        """Arrays of the final state, named as `compare` wants them: step, quantity, leaf."""
        with Checkpoints(self.folder, read_only=True) as checkpoints:
            _, state = checkpoints.restore_arrays(self.steps)
        arrays = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(state["players"]):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            for quantity in QUANTITIES:
                if f"/{quantity}/" in name and "/opt_state/" not in name:
                    arrays[f"{self.steps}/{quantity}/{name}"] = np.asarray(leaf)
        return arrays


def lines_of(file: Path) -> dict[int, tuple[int, ...]]:
    """Checksums by step of a process that may have been killed while it wrote."""
    lines = (line.split() for line in file.read_text().split("\n")[:-1])
    return {int(step): tuple(map(int, sums)) for step, *sums in lines}


def joined(parts: Sequence[dict[int, tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    """Whole batches of the steps that all processes have begun."""
    common = set.intersection(*(set(part) for part in parts))
    return [(step, sum((part[step] for part in parts), ())) for step in sorted(common)]


def row_of(name: str, run: Run, expected: Run, begun: Sequence[int]) -> Row:
    """How a run differs from the undisturbed one."""
    right = dict(expected.batches)
    if right.keys() != {step for step, _ in run.batches}:
        raise SystemExit(f"{name}: not all steps of the undisturbed run were trained.")
    same = sum(sums == right[step] for step, sums in run.batches)
    mine, theirs = run.state(), expected.state()
    ends = [{k: v for record in r.records() for k, v in record.items()} for r in (run, expected)]
    return {
        "run": name,
        "stages": [str(stage) for stage in RUNS[name]],
        "begun_at": list(begun),
        "batches": len(run.batches),
        "same_batches": same,
        "state": [compare(mine, theirs, quantity) for quantity in QUANTITIES],
        "end": {key: [end[key] for end in ends] for key in MEASURES},
    }


def print_row(row: Row) -> None:
    """Prints how a run differs."""
    stages = ", ".join(
        f"{stage} from step {step}"
        for stage, step in zip(row["stages"], row["begun_at"], strict=True)
    )
    print(f"{row['run']}: {stages}")
    print(f"  batches as undisturbed: {row['same_batches']} of {row['batches']}")
    for of in row["state"]:
        largest, median = of["largest_relative_difference"], of["median"]
        print(f"  {of['quantity']:<12}largest {largest:.1e}  median {median:.1e}  {of['leaf']}")
    for key, (mine, theirs) in row["end"].items():
        print(f"  {key} {mine:.5f}, undisturbed {theirs:.5f}", flush=True)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--every", type=int, default=2, help="steps of a checkpoint, at least 2")
    parser.add_argument("--process", type=json.loads, help=argparse.SUPPRESS)  # of a run, here
    arguments, config = parse_with_config(parser)
    if arguments.process is not None:
        sys.exit(train(**arguments.process))
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax is verbose
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Run] = {}
        for name, stages in RUNS.items():
            runs[name] = run = Run(Path(folder, name.replace(" ", "_")), config, arguments.every)
            begun = []
            for stage in stages:
                begun.append(run.newest() or 0)
                run.advance(stage)
            if name != "undisturbed":
                rows.append(row_of(name, run, runs["undisturbed"], begun))
                print_row(rows[-1])
    write_json(arguments.json, {"cores": os.cpu_count(), "rows": rows})
    sys.exit(any(row["same_batches"] < row["batches"] for row in rows))


if __name__ == "__main__":
    main()
