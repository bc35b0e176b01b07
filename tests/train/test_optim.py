"""Schedules and optimisers."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from avq.settings import settings_of
from avq.train.optim import Optim, learning_rate, make_optimizers, make_schedules, schedule


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (5, 1.0), (10, 2.0), (60, 1.0), (110, 0.0), (200, 0.0)]
)
def test_cosine_rises_linearly_then_falls_to_zero_at_the_last_step(step, expected):
    rate = schedule(learning_rate=2.0, warmup=10, decay="cosine", steps=110)(step)
    np.testing.assert_allclose(rate, expected, atol=1e-6)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (2, 1.0), (4, 2.0), (1000, 2.0)])
def test_constant_stays_after_its_warm_up(step, expected):
    rate = schedule(learning_rate=2.0, warmup=4, decay="constant", steps=10)(step)
    np.testing.assert_allclose(rate, expected, atol=1e-6)


def test_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="constant, cosine"):
        schedule(learning_rate=1.0, warmup=0, decay="step", steps=10)


def test_each_player_has_its_own_rate_and_descends():
    rates = {"first": 0.1, "second": 0.01}
    settings = Optim(b1=0.5, warmup=0)
    optimizers = make_optimizers(settings, make_schedules(settings, rates, {}, steps=10), {})
    params, gradients = {"w": jnp.ones(3)}, {"w": jnp.array([2.0, -3.0, 0.5])}
    for player, rate in rates.items():
        optimizer = optimizers[player]
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        # Adam's first step is the rate against the gradient's sign.
        chex.assert_trees_all_close(updates, {"w": -rate * jnp.sign(gradients["w"])}, rtol=1e-4)


def test_adam_equals_its_formula_with_the_settings_given():
    settings = Optim(b1=0.6, b2=0.7, warmup=2, decay="cosine")
    schedules = make_schedules(settings, {"only": 0.1}, {}, steps=10)
    optimizer = make_optimizers(settings, schedules, {})["only"]
    w, gradients = np.float64(1.0), [2.0, -3.0, 0.5, 1.0]
    state, mean, square = optimizer.init(jnp.float32(w)), 0.0, 0.0
    rates = [0.0, 0.05, 0.1, 0.1 * (1 + np.cos(np.pi / 8)) / 2]
    assert learning_rate(schedules["only"], state) == 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        update, state = optimizer.update(jnp.float32(gradient), state)
        mean = 0.6 * mean + 0.4 * gradient
        square = 0.7 * square + 0.3 * gradient**2
        expected = -rate * (mean / (1 - 0.6**step)) / (np.sqrt(square / (1 - 0.7**step)) + 1e-8)
        np.testing.assert_allclose(update, expected, rtol=1e-4)
        assert learning_rate(schedules["only"], state) == pytest.approx(rates[step - 1])


def test_player_with_a_b1_of_its_own_keeps_less_or_more_of_its_mean_gradient():
    settings = Optim(learning_rate=0.1, b1=0.9, warmup=0)
    schedules = make_schedules(settings, {"first": 0.1, "second": 0.1}, {}, steps=10)
    optimizers = make_optimizers(settings, schedules, {"second": 0.0})
    w, updates = jnp.float32(1.0), {}
    for name, optimizer in optimizers.items():
        _, state = optimizer.update(jnp.float32(1.0), optimizer.init(w))
        updates[name], _ = optimizer.update(jnp.float32(-1.0), state)
    # Means of 1 and -1, corrected for their bias: (0.9 * 0.1 - 0.1) / 0.19, and -1.
    assert float(updates["first"]) == pytest.approx(0.1 * 0.01 / 0.19, rel=1e-4)
    assert float(updates["second"]) == pytest.approx(0.1, rel=1e-4)


def test_late_player_warms_up_from_its_start_and_ends_with_the_others():
    settings = Optim(warmup=4, decay="cosine")
    rates, starts = {"first": 2.0, "late": 1.0}, {"late": 90}
    schedules = make_schedules(settings, rates, starts, steps=100)
    at = {name: [float(schedule(n)) for n in (0, 2, 4)] for name, schedule in schedules.items()}
    assert at == {"first": [0.0, 1.0, 2.0], "late": [0.0, 0.5, 1.0]}
    half = float(schedules["late"](4 + 3))  # of the six steps that are left after the warm-up
    assert (half, float(schedules["late"](10))) == pytest.approx((0.5, 0.0), abs=1e-6)
    assert float(schedules["first"](100)) == pytest.approx(0.0, abs=1e-6)


def test_defaults_are_the_paper_s_setting():
    assert {name: setting.default for name, setting in settings_of(Optim).items()} == {
        "learning_rate": 1e-4,
        "b1": 0.5,
        "b2": 0.999,
        "warmup": 0,
        "decay": "constant",
        "ema_decay": 0.999,
        "accumulate": 1,
        "skip_nonfinite": 0,
    }


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("learning_rate", (0.0, 5.0), (-0.1,)),
        ("b1", (0.0, 0.99), (-0.1, 1.0)),
        ("b2", (0.0, 0.99), (-0.1, 1.0)),
        ("warmup", (0, 9), (-1,)),
        ("decay", ("constant", "cosine"), ("step",)),
        ("ema_decay", (0.0, 1.0), (-0.1, 1.1)),
        ("accumulate", (1, 9), (0,)),
        ("skip_nonfinite", (0, 9), (-1,)),
    ],
)
def test_settings_are_kept_to_their_ranges(name, allowed, refused):
    setting = settings_of(Optim)[name]
    assert [setting.error(value) for value in allowed] == [None] * len(allowed)
    assert all(setting.error(value) for value in refused)
