"""Schedules and optimisers."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from avq.settings import settings_of
from avq.train.muon import newton_schulz
from avq.train.optim import Optim, learning_rate, make_optimizer, make_schedules, schedule


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
    schedules = make_schedules(settings, rates, {}, steps=10)
    params, gradients = {"w": jnp.ones(3)}, {"w": jnp.array([2.0, -3.0, 0.5])}
    for player, rate in rates.items():
        optimizer = make_optimizer(settings, schedules[player])
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        # Adam's first step is the rate against the gradient's sign.
        chex.assert_trees_all_close(updates, {"w": -rate * jnp.sign(gradients["w"])}, rtol=1e-4)


def test_adam_equals_its_formula_with_the_settings_given():
    settings = Optim(b1=0.6, b2=0.7, warmup=2, decay="cosine")
    schedules = make_schedules(settings, {"only": 0.1}, {}, steps=10)
    optimizer = make_optimizer(settings, schedules["only"])
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


def test_muon_is_that_of_optax_over_several_steps():
    """`optax.contrib.muon`, whose part for what is no kernel is NAdam."""
    rng = np.random.default_rng(0)
    shapes: Any = {
        "conv": {"kernel": (3, 3, 4, 6), "bias": (6,)},
        "again": {"kernel": (3, 3, 4, 6)},
        "wide": {"kernel": (1, 1, 4, 36)},
        "quantizer": {"embedding": (5, 7)},
    }

    def draw():
        return jax.tree.map(
            lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
            shapes,
            is_leaf=lambda shape: isinstance(shape, tuple),
        )

    def axes(path, value):
        inputs = tuple(range(value.ndim - 1))
        is_kernel = path[-1].key == "kernel"
        return contrib.MuonDimensionNumbers(inputs, value.ndim - 1) if is_kernel else None

    theirs = contrib.muon(
        lambda count: 0.01 * (count + 1),
        weight_decay=0.1,
        adam_b1=0.6,
        adam_b2=0.7,
        muon_weight_dimension_numbers=partial(jax.tree_util.tree_map_with_path, axes),
        consistent_rms=0.2,
    )
    settings = Optim(optimizer="muon", b1=0.6, b2=0.7, weight_decay=0.1)
    ours = make_optimizer(settings, lambda count: 0.01 * (count + 1))
    params = draw()
    states = [rule.init(params) for rule in (ours, theirs)]
    for _ in range(3):
        gradients = draw()
        updates, states[0] = jax.jit(ours.update)(gradients, states[0], params)
        expected, states[1] = jax.jit(theirs.update)(gradients, states[1], params)
        chex.assert_trees_all_close(updates, expected, rtol=1e-3, atol=1e-6)
        params = optax.apply_updates(params, updates)


def test_newton_schulz_makes_singular_values_alike():
    x = np.random.default_rng(0).normal(size=(2, 6, 36)).astype(np.float32)
    for before, after in zip(x, newton_schulz(jnp.asarray(x)), strict=True):
        left, _, right = np.linalg.svd(before, full_matrices=False)
        inside = left.T @ after @ right.T
        assert np.abs(inside - np.diag(np.diag(inside))).max() < 1e-4
        assert 0.6 < np.diag(inside).min() <= np.diag(inside).max() < 1.3


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_weight_decay_shrinks_kernels_alone_by_the_rate_times_it(kind):
    params = {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.ones(3)}
    still = jax.tree.map(jnp.zeros_like, params)
    optimizer = make_optimizer(Optim(optimizer=kind, weight_decay=0.5), lambda _: 0.1)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    expected = {"kernel": jnp.full((2, 3), -0.1 * 0.5 * 2.0), "bias": jnp.zeros(3)}
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)


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
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
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
        ("optimizer", ("adam", "muon"), ("sgd",)),
        ("learning_rate", (0.0, 5.0), (-0.1,)),
        ("weight_decay", (0.0, 0.1), (-0.1,)),
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
