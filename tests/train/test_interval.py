"""Metrics between two log lines, and steps that are not finite."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq.train.interval import Diverged, Interval


def metrics(loss=1.0, counts=((1, 0, 0), (0, 2, 0)), **more):
    scalars = {name: jnp.float32(value) for name, value in ({"loss": loss} | more).items()}
    return scalars | {"code_counts": jnp.array(counts, jnp.float32)}


def test_usage_is_over_the_whole_interval_and_other_metrics_are_means():
    interval = Interval(10)
    interval.add(metrics(1.0))
    interval.add(metrics(4.0, ((0, 1, 0), (0, 1, 0))))
    values = interval.summary(12, batch_size=8)
    assert values["train/loss"] == 2.5
    np.testing.assert_allclose(values["train/usage"], [2 / 3, 1 / 3])
    assert "train/code_counts" not in values


def test_step_that_is_not_finite_is_named_with_its_losses():
    interval = Interval(10)
    interval.add(metrics(1.0))
    interval.add(metrics(jnp.nan, mae=0.5))
    with pytest.raises(Diverged, match=r"step 12 is not finite: loss nan, mae 0\.5\."):
        interval.add(metrics(1.0))


def test_few_steps_may_be_left_out_and_count_in_no_mean(caplog):
    interval = Interval(0, may_skip=1)
    interval.add(metrics(2.0, skipped=0))
    interval.add(metrics(jnp.inf, skipped=1))
    interval.require_finite()  # as before a save
    interval.add(metrics(4.0, skipped=1))
    assert "step 2 is not finite" in caplog.text
    assert "1 of at most 1" in caplog.text
    assert interval.summary(3, batch_size=8)["train/loss"] == 3.0
    interval.add(metrics(jnp.inf, skipped=2))
    with pytest.raises(Diverged, match="step 4"):
        interval.require_finite()
