"""Kill test: training runs ended by signals in every phase, beside an undisturbed one.

    python -m benchmarks.kills [--json FILE] [--kills 25] [--seed 0] [--steps 40]
        [--config=NAME --config.KEY=VALUE ...]

A config, `configs/ah_vqvae.py:tiny` by default, trains once undisturbed. Then runs of the same
command are ended by a signal (half of them SIGKILL, the others SIGHUP, SIGINT or SIGTERM, after
which a run saves), up to five times each, started again and at last left to finish. Their final
states are compared leaf by leaf, bit for bit, and so are their records in metrics.jsonl, except
speeds. Every step is logged: the first record after a start is the mean over the steps since that
start only.

A signal is aimed at a phase, in an order drawn by the seed, and counted under the phase that it
really met. That is inferred from the files of the process, dead after SIGKILL: without a line of a
step it was start-up; with a new folder of an unfinished checkpoint, save; at a step whose
evaluation is due and has no results, evaluation; otherwise step. After the last step's evaluation
only saving is left.
"""

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from avq.checkpoint import CHECKPOINTS, Checkpoints
from benchmarks._common import Row, make_parser, parse_with_config, write_json

PHASES = ("start-up", "step", "save", "evaluation")
SIGNALS = [*3 * (signal.SIGKILL,), signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
KILLS_A_RUN = 5
EVAL_EVERY, SAVE_EVERY = 10, 7
UNFINISHED = "orbax-checkpoint-tmp"  # in the name of a checkpoint's folder until it is complete
SPEEDS = ("train/images_per_second", "train/data_wait")
SETTINGS = {"train.log_every": 1, "train.eval_every": EVAL_EVERY, "checkpoint.every": SAVE_EVERY}


class Attempt:
    """One start of the training command; as a context manager, it leaves no process running.

    Attributes:
        seconds: spent in each phase, while it was watched.
        entries: how often each phase was entered.
    """

    def __init__(self, run: Path, config: Sequence[str], steps: int) -> None:
        self.run, self.steps = run, steps
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.entries: Counter[str] = Counter()
        self._out, self._err = run.with_suffix(".out"), run.with_suffix(".err")
        self._began = time.time_ns()
        command = [sys.executable, "-m", "avq.main", *config]
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
            self.entries[phase] += phase != last
            before, last = now, phase
        return False

    def end_at(
        self, reached: Callable[[], bool], delay: float, number: signal.Signals
    ) -> str | None:
        """Sends the group a signal a while after a condition; returns the phase that it met, None
        when the process ended by itself.
        """
        if not self.watch(reached):
            return None
        due = time.monotonic() + delay
        if not self.watch(lambda: time.monotonic() >= due):
            return None
        phase = self.phase()
        os.killpg(self._process.pid, number)
        if self._process.wait() not in (-number, 128 + number):
            return None
        return self.phase() if number == signal.SIGKILL else phase

    def failure(self) -> str:
        """Exit code and errors of a process that ended by itself; empty when it succeeded."""
        code = self._process.wait()
        return f"exit code {code}\n{self._err.read_text()}" if code else ""

    def reported(self) -> list[int]:
        """Steps whose line this process has printed."""
        return [int(n) for n in re.findall(r"^step (\d+)/", self._out.read_text(), re.MULTILINE)]

    def saving(self) -> bool:
        """Whether this process has begun a checkpoint that is not complete."""
        try:
            folders = list((self.run / CHECKPOINTS).glob(f"*{UNFINISHED}*"))
            # An earlier process, killed while it saved, may have left one too.
            return bool(self.reported()) and any(
                folder.stat().st_mtime_ns > self._began for folder in folders
            )
        except FileNotFoundError:  # just completed
            return False

    def evaluating(self) -> bool:
        """Whether evaluation is due and has no results yet."""
        last = (self.reported() or [0])[-1]
        due = last == self.steps or (last > 0 and last % EVAL_EVERY == 0)
        return due and f"eval at {last}:" not in self._out.read_text()

    def phase(self) -> str:
        """Phase that the process is in, or was in when it died."""
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
    """One undisturbed run and the killed ones, in a folder."""

    def __init__(self, folder: Path, config: Sequence[str], steps: int, seed: int) -> None:
        self.folder, self.config = folder, config
        self.steps, self.rng = steps, random.Random(seed)
        self.undisturbed, self.aims = folder / "undisturbed", list[str]()
        self.signals: Counter[str] = Counter()
        with Attempt(self.undisturbed, config, steps) as attempt:
            attempt.watch()
            if problem := attempt.failure():
                raise SystemExit(f"The undisturbed run has failed: {problem}")
        entries = attempt.entries | {"step": steps}
        self.durations = {phase: attempt.seconds[phase] / (entries[phase] or 1) for phase in PHASES}
        durations = (f"{phase} {seconds:.2f}" for phase, seconds in self.durations.items())
        print("seconds of each phase:", ", ".join(durations), flush=True)

    def moment(self, attempt: Attempt) -> tuple[str, Callable[[], bool], float]:
        """Draws a kill: phase aimed at, condition to wait for, and seconds after that."""
        self.aims = self.aims or self.rng.sample(PHASES, len(PHASES))
        aim, steps = self.aims.pop(), self.rng.randint(1, SAVE_EVERY - 1)
        conditions: dict[str, Callable[[], bool]] = {
            "start-up": lambda: True,
            "step": lambda: len(attempt.reported()) >= steps and attempt.phase() == "step",
            "save": attempt.saving,
            "evaluation": attempt.evaluating,
        }
        return aim, conditions[aim], self.rng.uniform(0, self.durations[aim])

    def disturb(self, run: Path, kills: int) -> tuple[list[str], str]:
        """Kills a run up to `kills` times and lets it finish; the phases, and a failure if any."""
        landed: list[str] = []
        while True:
            with Attempt(run, self.config, self.steps) as attempt:
                if len(landed) == kills:
                    attempt.watch()
                    return landed, attempt.failure()
                aim, reached, delay = self.moment(attempt)
                number = self.rng.choice(SIGNALS)
                phase = attempt.end_at(reached, delay, number)
                if phase is None:
                    return landed, attempt.failure()
                landed.append(phase)
                self.signals[number.name] += 1
                if attempt.reported():  # the first start had programs to compile
                    starts = self.durations["start-up"], attempt.seconds["start-up"]
                    self.durations["start-up"] = min(starts)
                print(
                    f"{run.name}  {number.name:<8}{len(landed)}  aimed at {aim:<10}  landed in "
                    f"{landed[-1]:<10}  newest checkpoint {attempt.newest()}",
                    flush=True,
                )

    def differing_leaf(self, run: Path) -> str:
        """The first leaf of the final state that differs in any bit from the undisturbed run's;
        empty when none does.
        """
        mine, theirs = (self._final_state(folder) for folder in (run, self.undisturbed))
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
        """Whether metrics.jsonl is that of the undisturbed run, except speeds."""
        mine, theirs = (
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            for folder in (run, self.undisturbed)
        )
        for record in mine + theirs:
            for name in SPEEDS:
                record.pop(name, None)
        return mine == theirs

    def kill_runs(self, kills: int) -> Row:
        """Kills run after run and prints a table; returns the counts."""
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
                break  # would repeat for ever
        print(f"\n{'run':<8}{'kills':>5}  {'records':<9}final state")
        for name, count, state, same in rows:
            print(f"{name:<8}{count:>5}  {same:<9}{state}")
        print("kills by phase:", ", ".join(f"{phase} {phases[phase]}" for phase in PHASES))
        print("by signal:", ", ".join(f"{name} {n}" for name, n in sorted(self.signals.items())))
        return {
            "kills": phases.total(),
            "runs": len(rows),
            "identical": sum(state == "identical" for _, _, state, _ in rows),
            "phases": {phase: phases[phase] for phase in PHASES},
            "signals": dict(self.signals),
        }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    arguments, config = parse_with_config(parser)
    jax.config.update("jax_platforms", "cpu")  # an accelerator's memory is for the runs
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax is verbose
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, the runs would inherit to ignore it
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), config, arguments.steps, arguments.seed)
        counts = study.kill_runs(arguments.kills)
    write_json(arguments.json, counts)
    sys.exit(counts["identical"] < counts["runs"])


if __name__ == "__main__":
    main()
