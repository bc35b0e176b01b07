"""Metrics between two log lines, times, and steps that are not finite."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from avq.train.interval import Diverged, Interval
from avq.train.step import StepMetrics


def metrics(loss=1.0, counts=((1, 0, 0), (0, 2)), **more):
    means = {name: jnp.float32(value) for name, value in ({"loss": loss} | more).items()}
    return StepMetrics(means, {"codes": tuple(jnp.array(c, jnp.float32) for c in counts)})


def test_metrics_are_means_and_counts_are_summed_over_the_whole_interval():
    interval = Interval(
        10, values_of=lambda counts: {"total": [c.tolist() for c in counts["codes"]]}
    )
    interval.add(metrics(1.0))
    interval.add(metrics(4.0, ((0, 1, 0), (5, 0))))
    values = interval.summary(batch_size=8)
    assert values["train/loss"] == 2.5
    assert values["train/total"] == [[1, 1, 0], [5, 2]]  # levels of different codebook sizes


class Clock:
    """A clock that only the test advances."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_speed_and_share_of_waiting(clock):
    interval = Interval(0)
    for _ in range(2):
        with interval.waiting():
            clock.now += 1.0
        interval.add(metrics())
        clock.now += 3.0
    values = interval.summary(batch_size=16)
    assert values["train/images_per_second"] == 2 * 16 / 8
    assert values["train/data_wait"] == 2 / 8


def test_restart_leaves_earlier_time_waiting_and_steps_out_of_the_speed(clock):
    interval = Interval(0)
    with interval.waiting():
        clock.now += 50.0
    interval.add(metrics(1.0))
    interval.restart()
    with interval.waiting():
        clock.now += 1.0
    interval.add(metrics(3.0))
    clock.now += 1.0
    values = interval.summary(batch_size=16)
    assert values["train/images_per_second"] == 16 / 2
    assert values["train/data_wait"] == 1 / 2
    assert values["train/loss"] == 2.0  # of both steps


def test_speed_is_left_out_where_no_step_is_timed(clock):
    interval = Interval(0)
    interval.add(metrics(1.0))
    interval.restart()
    clock.now += 1.0
    values = interval.summary(batch_size=16)
    assert set(values) == {"train/loss"}


def test_step_that_is_not_finite_is_named_with_its_losses():
    interval = Interval(10)
    interval.add(metrics(1.0))
    interval.add(metrics(jnp.nan, error=0.5))
    with pytest.raises(Diverged, match=r"step 12 is not finite: error 0\.5, loss nan\."):
        interval.add(metrics(1.0))


def test_few_steps_may_be_left_out_and_count_in_no_mean(caplog):
    interval = Interval(0, may_skip=1)
    interval.add(metrics(2.0, skipped=0))
    interval.add(metrics(jnp.inf, skipped=1))
    interval.require_finite()  # as before a save
    interval.add(metrics(4.0, skipped=1))
    assert "step 2 is not finite" in caplog.text
    assert "1 of at most 1" in caplog.text
    assert interval.summary(batch_size=8)["train/loss"] == 3.0
    interval.add(metrics(jnp.inf, skipped=2))
    with pytest.raises(Diverged, match="step 4"):
        interval.require_finite()


def test_interval_whose_steps_were_all_left_out_has_no_values():
    interval = Interval(0, may_skip=5)
    interval.add(metrics(np.nan, skipped=1))
    interval.require_finite()
    assert interval.summary(batch_size=8) == {}


def test_interval_without_a_step_is_finite_and_has_no_values():
    interval = Interval(0)
    interval.require_finite()
    assert interval.summary(batch_size=8) == {}
