"""Stopping a run by a signal, without losing its last steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """What signals ask of a run.

    Attributes:
        number: of the newest signal, 0 without one.
        at_once: whether a signal raises KeyboardInterrupt, as it is to before the first step. The
            loop, which looks at the number after every step, unsets it.
    """

    number = 0
    at_once = True


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Notes Ctrl-C, SIGTERM and SIGHUP, also where the KeyboardInterrupt that they raise is lost in
    a callback of JAX. A second Ctrl-C always interrupts at once; a second SIGTERM does not, since
    schedulers send more than one.
    """
    stop, noted = Stop(), set()

    def note(number: int, _: Any) -> None:
        again = number == signal.SIGINT and number in noted
        noted.add(number)
        stop.number = number
        if stop.at_once or again:
            raise KeyboardInterrupt

    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        before[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
