"""Writers of metrics.jsonl, TensorBoard events and pictures, and progress on the terminal."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tensorboardX import SummaryWriter
from tqdm import tqdm

from avq.hosts import is_main_process


class Writer:
    """Writes into a run's folder, from the main process only.

    Args:
        run: the folder.
        start: step that training (re)starts from; later records of an interrupted run are dropped,
            since those steps are repeated.
    """

    def __init__(self, run: Path, start: int) -> None:
        self._metrics = run / "metrics.jsonl"
        self._samples = run / "samples"
        self._silent = not is_main_process()
        if self._silent:
            return
        self._samples.mkdir(exist_ok=True)
        _drop_later_records(self._metrics, start)
        self._tensorboard = SummaryWriter(str(run), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl; each entry of a list is a TensorBoard scalar."""
        if self._silent:
            return
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            for i, entry in enumerate(value if isinstance(value, list) else [value]):
                tag = f"{name}/level{i + 1}" if isinstance(value, list) else name
                self._tensorboard.add_scalar(tag, entry, step)

    def pictures(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Writes `samples/<step>.png` for the picture 'samples', `samples/<step>_NAME.png` for
        others.
        """
        if self._silent:
            return
        for name, picture in pictures.items():
            suffix = "" if name == "samples" else f"_{name}"
            Image.fromarray(picture).save(self._samples / f"{step:07d}{suffix}.png")
            self._tensorboard.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the TensorBoard file."""
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
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # no record, such as a line cut off in the middle of a write
    return step if isinstance(step, int) else float("inf")


class Progress:
    """A bar on a terminal, a line every log interval elsewhere; from the main process only."""

    def __init__(self, start: int, steps: int) -> None:
        self._steps = steps
        self._bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            disable=not (is_main_process() and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def advance(self) -> None:
        """Counts a step."""
        self._bar.update(1)

    def report(self, step: int, headline: str, values: Mapping[str, Any], left: float) -> None:
        """Shows an interval.

        Args:
            step: its last one.
            headline: the task's values.
            values: of the interval, for speed and waiting.
            left: seconds to the last step.
        """
        speed = f"{values['train/images_per_second']:.1f} img/s"
        parts = [headline, speed, f"wait {values['train/data_wait']:.1%}"]
        if self._bar.disable:
            minutes, seconds = divmod(round(left), 60)
            self.say(f"step {step}/{self._steps}  {'  '.join(parts)}  left {minutes}:{seconds:02d}")
        else:
            self._bar.set_postfix_str("  ".join(parts))

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if not is_main_process():
            return
        if self._bar.disable:
            print(message, flush=True)
        else:
            self._bar.write(message)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
