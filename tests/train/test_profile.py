"""Traces of some steps after the start."""

import jax
import pytest

from avq.train.profile import Profile


@pytest.fixture
def calls(monkeypatch):
    """Calls of JAX's profiler, in order."""
    found = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: found.append(path))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append("stop"))
    monkeypatch.setattr(jax, "block_until_ready", lambda x: found.append(x))
    return found


def run(profile, steps, calls):
    """Goes through steps; gives the calls made before and after each."""
    log = []
    for step in steps:
        for when in (profile.before, lambda s: profile.after(s, f"result {s}")):
            when(step)
            log += [(step, call) for call in calls]
            calls.clear()
    return log


@pytest.mark.parametrize("start", [0, 40])
def test_steps_are_traced_from_the_sixth_on_until_the_last_one_s_result(tmp_path, calls, start):
    profile = Profile(tmp_path, start, 2)
    log = run(profile, range(start + 1, start + 20), calls)
    last = start + 7
    assert log == [(start + 6, tmp_path), (last, f"result {last}"), (last, "stop")]
    profile.close()
    assert calls == []


def test_one_step_begins_and_ends_its_own_trace(tmp_path, calls):
    log = run(Profile(tmp_path, 0, 1), range(1, 20), calls)
    assert log == [(6, tmp_path), (6, "result 6"), (6, "stop")]


def test_no_steps_are_no_trace(tmp_path, calls):
    assert run(Profile(tmp_path, 0, 0), range(1, 20), calls) == []


def test_trace_of_a_run_that_ends_before_its_last_step_is_written(tmp_path, calls):
    profile = Profile(tmp_path, 0, 100)
    assert run(profile, range(1, 8), calls) == [(6, tmp_path)]
    profile.close()
    profile.close()
    assert calls == ["stop"]
