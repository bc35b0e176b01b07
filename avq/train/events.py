"""TensorBoard's file of events."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class EventFile:
    """Writes events in the calling thread, so that a full disk is an OSError here. The thread of
    tensorboardX's `SummaryWriter` dies of it, and whoever gives it more events waits for ever.

    Args:
        folder: of the file.
        purge_step: step from which on TensorBoard drops events of earlier files.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._file = EventsWriter(str(folder / "events"))
        if purge_step is not None:
            self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Adds a number."""
        self._write(Event(step=step, summary=summary.scalar(tag, value)))

    def image(self, tag: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Adds a picture."""
        self._write(Event(step=step, summary=summary.image(tag, picture, dataformats="HWC")))

    def flush(self) -> None:
        """Writes what is buffered to disk."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write_event(event)
