"""What a run writes for people: metrics.jsonl, TensorBoard events, pictures, and progress on the
terminal.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter
from tqdm import tqdm

from avq.hosts import first


class Writer:
    """Writes into a run's folder.

    Only the first process of a run does.

    Args:
        run: the folder.
        start: step that training (re)starts from; later records of an interrupted run are dropped,
            since they come again.
    """

    def __init__(self, run: Path, start: int) -> None:
        self._metrics = run / "metrics.jsonl"
        self._samples = run / "samples"
        self._silent = not first()
        if self._silent:
            return
        self._samples.mkdir(exist_ok=True)
        _drop_later_records(self._metrics, start)
        self._tensorboard = SummaryWriter(str(run), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """Appends one line of JSON; lists become one TensorBoard scalar an entry."""
        if self._silent:
            return
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            for i, entry in enumerate(value if isinstance(value, list) else [value]):
                tag = f"{name}/level{i + 1}" if isinstance(value, list) else name
                self._tensorboard.add_scalar(tag, entry, step)

    def image(self, step: int, picture: np.ndarray) -> None:
        """Writes `samples/<step>.png`."""
        if self._silent:
            return
        Image.fromarray(picture).save(self._samples / f"{step:07d}.png")
        self._tensorboard.add_image("samples", picture, step, dataformats="HWC")

    def close(self) -> None:
        if not self._silent:
            self._tensorboard.close()


def _drop_later_records(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
    new = path.with_name(path.name + ".new")
    new.write_text("".join(line + "\n" for line in kept))
    os.replace(new, path)


def _step_of(line: str) -> int | float:
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")  # a line cut off in the middle of a write


class Progress:
    """A bar on a terminal, a plain line a log interval elsewhere; from the first process only."""

    def __init__(self, start: int, steps: int) -> None:
        self._steps = steps
        self._bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            disable=not (first() and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def advance(self) -> None:
        self._bar.update(1)

    def report(self, step: int, metrics: dict[str, Any], seconds_left: float) -> None:
        """Shows the last interval's metrics."""
        parts = [
            f"loss {metrics['train/loss']:.4f}",
            f"mae {metrics['train/mae']:.4f}",
            f"perplexity {'/'.join(f'{p:.0f}' for p in metrics['train/perplexity'])}",
            f"{metrics['train/images_per_second']:.1f} img/s",
            f"wait {metrics['train/data_wait']:.1%}",
        ]
        if self._bar.disable:
            minutes, seconds = divmod(round(seconds_left), 60)
            self.say(f"step {step}/{self._steps}  {'  '.join(parts)}  left {minutes}:{seconds:02d}")
        else:
            self._bar.set_postfix_str(", ".join(parts))

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if not first():
            return
        if self._bar.disable:
            print(message, flush=True)
        else:
            self._bar.write(message)

    def close(self) -> None:
        self._bar.close()
