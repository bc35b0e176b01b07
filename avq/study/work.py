"""Doing a study: runs that are free are taken one after the other, by as many processes as come."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from avq.errors import InputError
from avq.json_files import read_json, replaced, write_json
from avq.lock import InUse, locked
from avq.study.definition import Job, Study, jobs_of
from avq.study.plots import plots
from avq.study.results import RESULTS, Row, bits_key, read_rows, rows_of_run, table, write_rows
from avq.train.stop import Stop

CLAIMS, RUNS, BASELINES = "claims", "runs", "baselines.json"  # in a study's folder


class Work:
    """A study in a folder.

    Args:
        study: what to do.
        out: the folder; `results.csv` there says what is done.
        say: prints a line.
    """

    def __init__(self, study: Study, out: Path, say: Callable[[str], object]) -> None:
        self.study, self.out, self.say = study, out, say
        self.jobs = jobs_of(study, self._seconds_a_step)

    def run(self, stop: Stop) -> int:
        """Trains what is neither done nor in the hands of another process.

        Returns:
            0; 1 when runs failed, which are named; 128 + n when signal n stopped it.
        """
        self.write()
        failed: dict[str, int] = {}
        while True:
            trained, taken = self._pass(failed, stop)
            if stop.number:
                self.say("stopped. The same command continues.")
                return 128 + stop.number
            if not (trained and taken):  # else others may have died since
                break
        if taken:
            self.say(f"{taken} runs are in the hands of other processes.")
        if failed:
            codes = ", ".join(f"{folder} (exit code {code})" for folder, code in failed.items())
            self.say(f"failed: {codes}. The same command tries again.")
        return 1 if failed else 0

    def _pass(self, failed: dict[str, int], stop: Stop) -> tuple[int, int]:
        """Goes through the runs once; adds exit codes of those that fail.

        Returns:
            How many were trained here, and how many were in the hands of others.
        """
        trained = taken = 0
        for number, job in enumerate(self.jobs, start=1):
            if stop.number or job.folder in failed or self.is_done(job):
                continue
            try:
                with locked(self.out / CLAIMS / job.folder) as claim:
                    if self.is_done(job):  # by another process, since we looked
                        continue
                    self.say(f"run {number} of {len(self.jobs)}: {job.folder}")
                    code = self._train(job, claim.fileno(), stop)
                    if not code:
                        self._measure_baselines(job)
                        self.write()
            except InUse:
                taken += 1
                continue
            trained += 1
            if code:
                failed[job.folder] = code
        return trained, taken

    def write(self) -> None:
        """Brings `results.csv`, `table.md` and the plots up to date with the runs that are here."""
        with locked(self.out / CLAIMS / "results", wait=True):
            rows = self._rows()
            write_rows(self.out / RESULTS, rows, self.study)
            baselines = read_json(self.out / BASELINES) or {}
            texts = {"table.md": table(rows, baselines, self.study)}
            texts |= {f"{name}.svg": svg for name, svg in plots(rows, self.study).items()}
            for name, text in texts.items():
                with replaced(self.out / name) as file:
                    file.write_text(text, encoding="utf-8")

    def _rows(self) -> list[Row]:
        """Rows of the csv, those of finished runs that are here in the place of older ones."""
        found = {job: rows for job in self.jobs if (rows := self._finished(job))}
        kept = [
            row
            for row in read_rows(self.out / RESULTS)
            if not any(_is_of(row, job) for job in found)
        ]
        return kept + [row for rows in found.values() for row in rows]

    def _finished(self, job: Job) -> list[Row]:
        """Rows of a run, none unless it is done."""
        rows = rows_of_run(self.out / RUNS / job.folder, job)
        return rows if rows and rows[-1]["step"] == job.steps else []

    def is_done(self, job: Job) -> bool:
        """Whether `results.csv` has the last row of a run, of the same config."""
        return any(
            _is_of(row, job) and (row["step"], row["config"]) == (job.steps, job.digest)
            for row in read_rows(self.out / RESULTS)
        )

    def _train(self, job: Job, claim: int, stop: Stop) -> int:
        """Trains, or resumes, a run in a process of its own, which holds the claim, too: should
        this one die, no other starts the run again beside it.
        """
        workdir = f"--workdir={self.out / RUNS / job.folder}"
        command = [sys.executable, "-m", "avq.main", *job.arguments, workdir]
        child = subprocess.Popen(command, pass_fds=(claim,))
        while True:
            try:
                return child.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if stop.number:
                    child.send_signal(signal.SIGTERM)
                    return child.wait()

    def _measure_baselines(self, job: Job) -> None:
        """Measures what a run has to beat, once for each data and number of bits."""
        bits = bits_key(self._finished(job)[-1])
        with locked(self.out / CLAIMS / "baselines", wait=True):
            known: dict[str, Any] = read_json(self.out / BASELINES) or {}
            if bits in known.get(job.data, {}):
                return
            self.say(f"measuring baselines at {bits} bits a pixel")
            measured = self.out / CLAIMS / "eval.json"
            run = str(self.out / RUNS / job.folder)
            done = _avq("eval", run, "--baselines", "--json", str(measured))
            if done.returncode:
                self.say(f"baselines were not measured: {done.stderr.strip()}")
                return
            known.setdefault(job.data, {})[bits] = read_json(measured)["baselines"]
            write_json(self.out / BASELINES, known)

    def _seconds_a_step(self, system: str, arguments: Sequence[str]) -> float:
        """Measured once, so that every process and every restart trains for as many steps."""
        file = self.out / "seconds_a_step.json"
        with locked(self.out / CLAIMS / "speed", wait=True):
            known: dict[str, float] = read_json(file) or {}
            if system not in known:
                self.say(f"measuring the speed of {system}")
                measured = self.out / CLAIMS / "bench.json"
                done = _avq("bench", *arguments, "--json", str(measured))
                if done.returncode:
                    raise InputError(f"system {system!r}: {done.stderr.strip()}")
                known[system] = read_json(measured)["train"]["step_ms"] / 1e3
                write_json(file, known)
        return known[system]


def _avq(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a verb in a process of its own: this one must not hold an accelerator's memory."""
    command = [sys.executable, "-m", "avq.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def _is_of(row: Row, job: Job) -> bool:
    return (row["system"], row["data"], row["seed"]) == (job.system, job.data, job.seed)
