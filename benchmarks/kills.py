"""Training runs killed by SIGKILL at moments of every phase, beside one that nothing disturbs.

    python -m benchmarks.kills --kills 25 --json FILE [--seed 0] [--steps 40]

`configs/ah_vqvae.py:tiny` trains once undisturbed. Then runs of the same command are killed, up to
five times each, started again and at last left to finish. Their final states are compared leaf by
leaf, bit for bit, and so are their records in metrics.jsonl, but for speeds. Every step is logged:
the first record behind a start is the mean over the steps since that start only.

A kill is aimed at a phase, in an order drawn by the seed, and counted under the phase that it
really ended. That is read off what the dead process has left: no line of a step is start-up; a new
folder of an unfinished checkpoint is save; a step at which evaluation is due, without its results,
is evaluation; all else is step. After the last step's evaluation there is nothing left but to save.
"""

import argparse
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from avq.checkpoint import CHECKPOINTS, Checkpoints

PHASES = ("start-up", "step", "save", "evaluation")
KILLS_A_RUN = 5
EVAL_EVERY, SAVE_EVERY = 10, 7
UNFINISHED = "orbax-checkpoint-tmp"  # in the name of a checkpoint's folder until it is complete
SPEEDS = ("train/images_per_second", "train/data_wait")
SETTINGS = {"train.log_every": 1, "train.eval_every": EVAL_EVERY, "checkpoint.every": SAVE_EVERY}


class Attempt:
    """The training command, started once; use as a context manager, which leaves nothing running.

    Attributes:
        seconds: spent in each phase so far, while it was watched.
        times: that each phase was entered.
    """

    def __init__(self, run: Path, steps: int) -> None:
        self.run, self.steps = run, steps
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.times: Counter[str] = Counter()
        self._out, self._err = run.with_suffix(".out"), run.with_suffix(".err")
        self._began = time.time_ns()
        command = [sys.executable, "-m", "avq.main", "--config=configs/ah_vqvae.py:tiny"]
        settings = SETTINGS | {"train.steps": steps}
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [*command, f"--workdir={run}"], stdout=out, stderr=err, start_new_session=True
            )

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def watch(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits for a condition; False when the process ended before."""
        before, last = time.monotonic(), ""
        while self._process.poll() is None:
            if until():
                return True
            time.sleep(0.001)
            now, phase = time.monotonic(), self.phase()
            self.seconds[phase] += now - before
            self.times[phase] += phase != last
            before, last = now, phase
        return False

    def kill_at(self, reached: Callable[[], bool], delay: float) -> bool:
        """Kills the group a while after a condition; False when the process ended before."""
        if not self.watch(reached):
            return False
        due = time.monotonic() + delay
        if not self.watch(lambda: time.monotonic() >= due):
            return False
        os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait() == -signal.SIGKILL

    def failure(self) -> str:
        """What a process that ended by itself has to say, or nothing when it is done."""
        code = self._process.wait()
        return f"exit code {code}\n{self._err.read_text()}" if code else ""

    def reported(self) -> list[int]:
        """Steps of which this process has printed a line."""
        return [int(n) for n in re.findall(r"^step (\d+)/", self._out.read_text(), re.MULTILINE)]

    def saving(self) -> bool:
        """Whether this process has begun a checkpoint that is not complete."""
        try:
            folders = list((self.run / CHECKPOINTS).glob(f"*{UNFINISHED}*"))
            # An earlier process, killed while it saved, may have left one too.
            return bool(self.reported()) and any(
                folder.stat().st_mtime_ns > self._began for folder in folders
            )
        except FileNotFoundError:  # it has just been completed
            return False

    def evaluating(self) -> bool:
        """Whether evaluation is due, and its results are not there."""
        last = (self.reported() or [0])[-1]
        due = last == self.steps or (last > 0 and last % EVAL_EVERY == 0)
        return due and f"eval at {last}:" not in self._out.read_text()

    def phase(self) -> str:
        """Where the process is, or was when it died."""
        if not self.reported():
            return "start-up"
        if self.saving():
            return "save"
        if self.evaluating():
            return "evaluation"
        return "save" if self.reported()[-1] == self.steps else "step"

    def newest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        names = (folder.name for folder in (self.run / CHECKPOINTS).glob("*"))
        return max((int(name) for name in names if name.isdecimal()), default=None)


class Study:
    """One undisturbed run, and those that are killed, in a folder."""

    def __init__(self, folder: Path, steps: int, seed: int) -> None:
        self.folder, self.steps, self.rng = folder, steps, random.Random(seed)
        self.whole, self.aims = folder / "undisturbed", list[str]()
        with Attempt(self.whole, steps) as attempt:
            attempt.watch()
            if problem := attempt.failure():
                raise SystemExit(f"The undisturbed run has failed: {problem}")
        times = attempt.times | {"step": steps}
        self.lasts = {phase: attempt.seconds[phase] / (times[phase] or 1) for phase in PHASES}
        told = (f"{phase} {seconds:.2f}" for phase, seconds in self.lasts.items())
        print("seconds of each phase:", ", ".join(told), flush=True)

    def moment(self, attempt: Attempt) -> tuple[str, Callable[[], bool], float]:
        """The phase aimed at, what to wait for, and for how long after that."""
        self.aims = self.aims or self.rng.sample(PHASES, len(PHASES))
        aim, lines = self.aims.pop(), self.rng.randint(1, SAVE_EVERY - 1)
        conditions: dict[str, Callable[[], bool]] = {
            "start-up": lambda: True,
            "step": lambda: len(attempt.reported()) >= lines and attempt.phase() == "step",
            "save": attempt.saving,
            "evaluation": attempt.evaluating,
        }
        return aim, conditions[aim], self.rng.uniform(0, self.lasts[aim])

    def disturb(self, run: Path, kills: int) -> tuple[list[str], str]:
        """Kills a run up to `kills` times and lets it finish; the phases, and what went wrong."""
        landed: list[str] = []
        while True:
            with Attempt(run, self.steps) as attempt:
                if len(landed) == kills:
                    attempt.watch()
                    return landed, attempt.failure()
                aim, reached, delay = self.moment(attempt)
                if not attempt.kill_at(reached, delay):
                    return landed, attempt.failure()
                landed.append(attempt.phase())
                if attempt.reported():  # the first start of all had programs to compile
                    starts = self.lasts["start-up"], attempt.seconds["start-up"]
                    self.lasts["start-up"] = min(starts)
                print(
                    f"{run.name}  kill {len(landed)}  aimed at {aim:<10}  landed in "
                    f"{landed[-1]:<10}  newest checkpoint {attempt.newest()}",
                    flush=True,
                )

    def differing_leaf(self, run: Path) -> str:
        """The first leaf of the final state that differs in any bit from the undisturbed run's, or
        nothing.
        """
        mine, theirs = (self._final_state(folder) for folder in (run, self.whole))
        if mine.keys() != theirs.keys():
            return f"leaves {sorted(mine.keys() ^ theirs.keys())}"
        return next((name for name, bits in mine.items() if bits != theirs[name]), "")

    def _final_state(self, run: Path) -> dict[str, Any]:
        with Checkpoints(run, read_only=True) as checkpoints:
            _, state = checkpoints.restore_arrays(self.steps)
        leaves = jax.tree_util.tree_leaves_with_path(state)
        arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        return {name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()}

    def same_records(self, run: Path) -> bool:
        mine, theirs = (
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            for folder in (run, self.whole)
        )
        for record in mine + theirs:
            for name in SPEEDS:
                record.pop(name, None)
        return mine == theirs

    def figures(self, kills: int) -> dict[str, Any]:
        """Kills run after run; the figures, as they go into the JSON."""
        phases: Counter[str] = Counter()
        rows: list[tuple[str, int, str, str]] = []
        while phases.total() < kills:
            run = self.folder / f"run{len(rows) + 1}"
            landed, problem = self.disturb(run, min(KILLS_A_RUN, kills - phases.total()))
            phases.update(landed)
            if problem:
                print(f"{run.name} has failed by itself: {problem}", flush=True)
                rows.append((run.name, len(landed), "failed", "-"))
            else:
                same = "same" if self.same_records(run) else "differ"
                rows.append((run.name, len(landed), self.differing_leaf(run) or "identical", same))
            print(f"{run.name}  final state {rows[-1][2]}, records {rows[-1][3]}", flush=True)
            if not landed:
                break  # it would go on like this for ever
        print(f"\n{'run':<8}{'kills':>5}  {'records':<9}final state")
        for name, count, state, same in rows:
            print(f"{name:<8}{count:>5}  {same:<9}{state}")
        print("kills by phase:", ", ".join(f"{phase} {phases[phase]}" for phase in PHASES))
        return {
            "kills": phases.total(),
            "runs": len(rows),
            "identical": sum(state == "identical" for _, _, state, _ in rows),
            "phases": {phase: phases[phase] for phase in PHASES},
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # an accelerator's memory is for the runs
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates there
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), arguments.steps, arguments.seed)
        figures = study.figures(arguments.kills)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(figures["identical"] < figures["runs"])


if __name__ == "__main__":
    main()
