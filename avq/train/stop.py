"""Stopping a run by a signal, without losing its last steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """Number of the signal that asked the run to stop, or 0."""

    number = 0


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Notes Ctrl-C and SIGTERM, so that the step under way can end. A second Ctrl-C interrupts at
    once; a second SIGTERM does not, since schedulers send more than one.
    """
    stop = Stop()

    def note(number: int, _: Any) -> None:
        stop.number = number
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
