"""Stopping by signal."""

import os
import signal

import pytest

from avq.train.stop import stop_on_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def as_ever():
    """Numbers of the signals that reach the handlers from before."""
    acted = []
    before = {n: signal.signal(n, lambda number, _: acted.append(number)) for n in SIGNALS}
    yield acted
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_interrupts_at_once_and_is_noted_should_that_be_lost(number, as_ever):
    with stop_on_signal() as stop:
        assert stop.number == 0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert stop.number == number
    assert as_ever == []
    os.kill(os.getpid(), number)
    assert as_ever == [number]


@pytest.mark.parametrize("number", SIGNALS)
def test_between_steps_it_is_noted_and_only_a_second_ctrl_c_interrupts(number, as_ever):
    with stop_on_signal() as stop:
        stop.at_once = False
        os.kill(os.getpid(), number)
        assert stop.number == number
        if number != signal.SIGINT:
            os.kill(os.getpid(), number)
        else:
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert as_ever == []


def test_closed_terminal_is_ignored_where_nohup_asks_for_it(as_ever):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.number == 0
