"""Writers of metrics.jsonl, TensorBoard events and pictures, and progress on the terminal."""

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from avq.hosts import is_main_process
from avq.json_files import replaced
from avq.train.events import EventFile

SILENCE = 15  # seconds without a line after which the first steps are shown


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
        self._events = EventFile(run, purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl; each entry of a list is a TensorBoard scalar."""
        if self._silent:
            return
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            for i, entry in enumerate(value if isinstance(value, list) else [value]):
                tag = f"{name}/level{i + 1}" if isinstance(value, list) else name
                self._events.scalar(tag, entry, step)
        self._events.flush()

    def pictures(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Writes `samples/<step>.png` for the picture 'samples', `samples/<step>_NAME.png` for
        others.
        """
        if self._silent:
            return
        for name, picture in pictures.items():
            suffix = "" if name == "samples" else f"_{name}"
            with replaced(self._samples / f"{step:07d}{suffix}.png") as new:
                Image.fromarray(picture).save(new, "PNG")
            self._events.image(name, picture, step)
        self._events.flush()

    def close(self) -> None:
        """Closes the TensorBoard file."""
        if not self._silent:
            with suppress(OSError):  # told when it was to be written
                self._events.close()


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
        self._done, self._steps = start, steps
        self._silent_since = time.monotonic()
        self._reported = False
        self._bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            disable=not (is_main_process() and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def advance(self) -> None:
        """Counts a step. Shows it where the first interval takes long."""
        self._done += 1
        self._bar.update(1)
        silence = time.monotonic() - self._silent_since
        if self._bar.disable and not self._reported and silence > SILENCE:
            self.say(f"step {self._done}/{self._steps}")

    def report(
        self, step: int, headline: str, values: Mapping[str, Any], left: float | None
    ) -> None:
        """Shows an interval.

        Args:
            step: its last one.
            headline: the task's values.
            values: of the interval, for speed and waiting where it has them.
            left: seconds to the last step, where the speed is known.
        """
        self._reported = True
        parts = [headline]
        if left is not None:
            speed, wait = values["train/images_per_second"], values["train/data_wait"]
            parts += [f"{speed:.1f} img/s", f"wait {wait:.1%}"]
        if not self._bar.disable:
            self._bar.set_postfix_str("  ".join(parts))
            return
        if left is not None:
            minutes, seconds = divmod(round(left), 60)
            parts.append(f"left {minutes}:{seconds:02d}")
        self.say("  ".join([f"step {step}/{self._steps}", *parts]))

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if not is_main_process():
            return
        self._silent_since = time.monotonic()
        if self._bar.disable:
            print(message, flush=True)
        else:
            self._bar.write(message)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
