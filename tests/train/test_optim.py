"""Schedules and optimisers."""

from types import SimpleNamespace

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from avq.train.optim import make_optimizers, schedule


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
    settings = SimpleNamespace(
        learning_rate=0.1,
        discriminator_learning_rate=0.01,
        warmup=0,
        decay="constant",
        b1=0.5,
        b2=0.999,
    )
    optimizers = make_optimizers(settings, steps=10)
    params, gradients = {"w": jnp.ones(3)}, {"w": jnp.array([2.0, -3.0, 0.5])}
    for player, rate in (("vqvae", 0.1), ("discriminator", 0.01)):
        optimizer = optimizers[player]
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        # Adam's first step is the rate against the gradient's sign.
        chex.assert_trees_all_close(updates, {"w": -rate * jnp.sign(gradients["w"])}, rtol=1e-4)
