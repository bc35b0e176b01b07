"""A short real training, with its quality over time."""

import signal
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from avq import tasks
from avq.report.training import read_records, training_seconds
from avq.train import loop
from avq.train.stop import Stop
from avq.train.task import Task
from benchmarks._common import Row
from benchmarks.accelerator.parts import Case, LeftOut, Shared


def cases(shared: Shared) -> Sequence[Case]:
    """The one run."""
    return [Case({"data": shared.data}, partial(train, shared), compiles=True)]


def train(shared: Shared) -> Row:
    """Trains until the last step, or until the part's time is up.

    Raises:
        LeftOut: when it was up before the first evaluation.
    """
    more = f"--config.data.path={shared.data}", "--config.parallel.devices=1"
    arguments = [*shared.sizes.run, *more]
    task, stop = tasks.make_task(tasks.load(arguments)), Stop()
    seconds = max(0.0, shared.until - shared.clock())
    timer = threading.Timer(seconds, setattr, (stop, "number", signal.SIGTERM))
    timer.daemon = True
    with tempfile.TemporaryDirectory() as folder:
        timer.start()
        try:
            loop.train(task, folder, stop=stop)
        finally:
            timer.cancel()
        rows = curve(Path(folder), task)
    if not rows:
        raise LeftOut(f"its first evaluation did not come within {seconds:.0f} s")
    return {"config": " ".join(shared.sizes.run), **rows[-1], "curve": rows}


def curve(run: Path, task: Task) -> list[Row]:
    """A row for each evaluation of a run; seconds are those of the steps alone."""
    records, rows = read_records(run, task.train.steps), []
    for record in records:
        if "eval/psnr" in record:
            seconds = training_seconds(records, task.batch_size, record["step"])
            rows.append({"step": record["step"], "step_s": seconds, "psnr": record["eval/psnr"]})
    return rows
