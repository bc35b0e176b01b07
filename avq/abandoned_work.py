"""Reads and writes that Orbax leaves behind when one of them fails."""

import functools
import sys
import warnings
from types import TracebackType
from typing import Any

LOOP_CLOSED = "Event loop is closed"
# Coroutines of Orbax that others make and then await, so that a loop may close before they begin.
NESTED = "write_fragment|_read_array_index_and_device_put"


def drop_reports_of_abandoned_work() -> None:
    """Keeps Python from printing what becomes of the reads and writes that Orbax left behind.

    When one array cannot be read or written, Orbax 0.12 closes the event loop in which it works on
    the others. Sooner or later, a traceback of pages follows for each of them, or a warning of a
    coroutine that was never awaited for one that had not begun.
    """
    warnings.filterwarnings("ignore", f"coroutine '.*({NESTED})' was never awaited", RuntimeWarning)
    _drop_reports_of_exceptions()


@functools.cache
def _drop_reports_of_exceptions() -> None:
    report, report_raised = sys.unraisablehook, sys.excepthook

    def report_others(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = code is not None and "orbax" in code.co_filename
        if not of_orbax and str(unraisable.exc_value) != LOOP_CLOSED:
            report(unraisable)

    def report_raised_by_others(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if str(error) != LOOP_CLOSED:
            report_raised(kind, error, trace)

    sys.unraisablehook, sys.excepthook = report_others, report_raised_by_others
