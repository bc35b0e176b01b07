"""Stopping by signal."""

import os
import signal

import pytest

from avq.train.stop import stop_on_signal


@pytest.mark.parametrize(("number", "second"), [(signal.SIGINT, ["as ever"]), (signal.SIGTERM, [])])
def test_first_signal_is_noted_and_a_second_ctrl_c_acts_as_ever(number, second):
    acted = []
    before = signal.signal(number, lambda *_: acted.append("as ever"))
    try:
        with stop_on_signal() as stop:
            assert stop.number == 0
            os.kill(os.getpid(), number)
            assert stop.number == number
            assert acted == []
            os.kill(os.getpid(), number)
            assert acted == second
        os.kill(os.getpid(), number)
        assert acted == [*second, "as ever"]
    finally:
        signal.signal(number, before)
