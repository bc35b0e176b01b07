"""A trace of some steps of a run, for TensorBoard's profile page or ui.perfetto.dev."""

from pathlib import Path
from typing import Any

import jax

WARM_UP = 5  # steps after the start that are not traced: compilation, first reads


class Profile:
    """Traces `steps` steps, from the sixth after `start` on, into a folder; none for 0."""

    def __init__(self, folder: Path, start: int, steps: int) -> None:
        self.folder = folder
        self.first, self.last = start + WARM_UP + 1, start + WARM_UP + steps
        self._tracing = False

    def before(self, step: int) -> None:
        """Begins the trace if this step is the first of it."""
        if step == self.first <= self.last:
            jax.profiler.start_trace(self.folder)
            self._tracing = True

    def after(self, step: int, result: Any) -> None:
        """Ends the trace if this step is the last of it, once its result is computed."""
        if self._tracing and step == self.last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way, and writes it."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
