"""Priors learn a field whose entropy is known."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avq.models.build import make_prior

GRIDS = ((2, 4), (1, 2))
BATCH = 128
KINDS = {"transformer": (150, 1), "pixelcnn": (80, 1), "masked": (250, 2)}  # steps and depth
SMALL = {"width": 16, "heads": 2, "dropout": 0.0, "code_dim": 4, "kernel": 3}


@pytest.fixture
def own_promotion():
    """Types as optax, which is not strict about them, needs them."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def field():
    """All 1,024 states of ten binary codes in a Markov field, as grids, and their probabilities:
    equal neighbours, and equal parents and children, are likelier.
    """
    states = np.array(list(itertools.product(range(2), repeat=10)), np.int32)
    coarse, fine = states[:, :2].reshape(-1, 1, 2), states[:, 2:].reshape(-1, 2, 4)
    energy = 0.6 * (coarse[:, :, 0] == coarse[:, :, 1]).sum(1)
    energy += 0.7 * (fine[:, 1:] == fine[:, :-1]).sum((1, 2))
    energy += 0.5 * (fine[:, :, 1:] == fine[:, :, :-1]).sum((1, 2))
    energy += 0.6 * (fine == coarse.repeat(2, 1).repeat(2, 2)).sum((1, 2))
    energy += 0.2 * (fine == 0).sum((1, 2))
    weights = np.exp(energy)
    return (jnp.asarray(fine), jnp.asarray(coarse)), weights / weights.sum()


@pytest.mark.usefixtures("own_promotion")
@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_comes_within_two_percent_of_the_entropy(kind):
    states, probabilities = field()
    entropy = -(probabilities * np.log(probabilities)).sum()
    steps, depth = KINDS[kind]
    module: Any = make_prior({"kind": kind, "depth": depth, **SMALL}, GRIDS, (2, 2), 0)

    def nats(params, codes, key):
        labels = jnp.zeros(len(codes[0]), jnp.int32)
        levels = module.apply(params, codes, labels, method="nats", rngs={"mask": key})
        return sum(level.sum(axis=(1, 2)) for level in levels)

    optimizer = optax.adam(optax.cosine_decay_schedule(0.02 / depth, steps))

    @jax.jit
    def step(params, state, codes, key):
        gradients = jax.grad(lambda params: nats(params, codes, key).mean())(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state

    rngs = {"params": jax.random.key(1), "mask": jax.random.key(2)}
    one = tuple(level[:1] for level in states)
    init = jax.jit(partial(module.init, method="nats"))
    params = init(rngs, one, jnp.zeros(1, jnp.int32))
    whole = jax.device_get(states)
    state, rng = optimizer.init(params), np.random.default_rng(0)
    for key in jax.random.split(jax.random.key(0), steps):
        rows = rng.choice(1024, BATCH, p=probabilities)
        codes = tuple(jnp.asarray(level[rows]) for level in whole)
        params, state = step(params, state, codes, key)
    rows = rng.choice(1024, 1 << 13, p=probabilities)  # every one with a mask of its own
    whole = tuple(jnp.asarray(level[rows]) for level in whole)
    found = float(jax.jit(nats)(params, whole, jax.random.key(3)).mean())
    likely_ones = probabilities @ np.concatenate([level.reshape(1024, -1) for level in states], 1)
    independent = -(likely_ones * np.log(likely_ones)).sum()
    independent -= ((1 - likely_ones) * np.log(1 - likely_ones)).sum()
    assert entropy * 0.98 < found < entropy * 1.02 < independent * 0.9
