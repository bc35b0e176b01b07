"""Stopping a run from outside without losing what it did."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """The signal that asked the run to stop, or 0."""

    number = 0


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Ctrl-C or SIGTERM lets the step under way end. A second Ctrl-C acts as ever; a second SIGTERM
    does not, since schedulers send more than one.
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
