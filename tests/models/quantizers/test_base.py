"""Behaviour of every quantiser with a table of codes, on one device and on several."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from avq.models.quantizers import (
    BSQQuantizer,
    DiVeQQuantizer,
    EMAQuantizer,
    FSQQuantizer,
    GradientQuantizer,
    ProductQuantizer,
    ResidualQuantizer,
    SimVQQuantizer,
)
from avq.models.quantizers.base import code_counts, sample_rows, uniform_codes

from ..model_helpers import normal, random_variables, sharded
from .quantizer_helpers import (
    D,
    K,
    as_float32,
    is_row_of,
    nearest_by_brute_force,
    table_of,
    tiny,
    train,
    train_and_update,
)

KINDS = (EMAQuantizer, GradientQuantizer)


def test_code_counts_are_numpys():
    codes = np.random.default_rng(0).integers(0, K - 1, 40).astype(np.int32)
    expected = np.bincount(codes, minlength=K).astype(np.float32)
    chex.assert_trees_all_equal(code_counts(jnp.asarray(codes), K), jnp.asarray(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_straight_through_gradient_is_the_identity(kind, key):
    z, weight = normal(2, 2, 3, D), normal(2, 2, 3, D, seed=1)
    quantizer = tiny(kind, commitment=0.0)
    variables = random_variables(quantizer, z, False)

    def weighted(z, variables):
        result, _ = train(quantizer, variables, z, key)
        return jnp.sum(weight * result.vectors)

    to_input, to_codebook = jax.jit(jax.grad(weighted, (0, 1)))(z, variables)
    chex.assert_trees_all_equal(to_input, weight)
    chex.assert_trees_all_equal(to_codebook, jax.tree.map(jnp.zeros_like, variables))


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_beta_weighs_the_pull_on_the_input_and_not_the_one_on_the_codes(kind, beta, key):
    z = normal(2, 2, 3, D)
    quantizer = tiny(kind, commitment=beta)
    variables = random_variables(quantizer, z, False)

    def loss(z, variables):
        return train(quantizer, variables, z, key)[0].loss

    value, (to_input, to_codebook) = jax.jit(jax.value_and_grad(loss, (0, 1)))(z, variables)

    rows, table = np.asarray(z, np.float64).reshape(-1, D), np.asarray(table_of(variables))
    codes = nearest_by_brute_force(rows, table)
    gap = rows - table[codes]
    pull = np.zeros((K, D))
    np.add.at(pull, codes, -2 * gap / gap.size)
    weight = beta + (kind is GradientQuantizer)
    chex.assert_trees_all_close(value, np.float32(weight * np.mean(gap**2)), rtol=1e-5)
    expected = as_float32((2 * beta * gap / gap.size).reshape(z.shape))
    chex.assert_trees_all_close(to_input, expected, rtol=1e-5, atol=1e-7)
    if kind is GradientQuantizer:
        expected = {"embedding": as_float32(pull)}
        chex.assert_trees_all_close(to_codebook["params"], expected, rtol=1e-5, atol=1e-7)
    else:
        chex.assert_trees_all_equal(to_codebook, jax.tree.map(jnp.zeros_like, variables))


@pytest.mark.parametrize("kind", KINDS)
def test_training_vectors_are_the_chosen_codes(kind, key):
    z = normal(2, 2, 3, D, mean=50.0)  # far from the codes, where z + (e - z) is not e
    quantizer = tiny(kind)
    variables = random_variables(quantizer, z, False)
    result, _ = train(quantizer, variables, z, key)
    codes = nearest_by_brute_force(z.reshape(-1, D), table_of(variables)).reshape(2, 2, 3)
    np.testing.assert_array_equal(result.codes, codes)
    chex.assert_type(result.codes, jnp.int32)
    chex.assert_trees_all_equal(result.vectors, np.asarray(table_of(variables))[codes])


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_returns_exact_codes_and_changes_nothing(kind):
    z = normal(2, 2, 3, D)
    quantizer = tiny(kind)
    variables = random_variables(quantizer, z, False)
    result, state = quantizer.apply(variables, z, False, mutable=["codebook"])
    chex.assert_trees_all_equal(state, {"codebook": variables["codebook"]})
    codes = nearest_by_brute_force(z.reshape(-1, D), table_of(variables)).reshape(2, 2, 3)
    chex.assert_trees_all_equal(result.vectors, np.asarray(table_of(variables))[codes])
    looked_up = quantizer.apply(variables, result.codes, method="lookup")
    chex.assert_trees_all_equal(looked_up, result.vectors)
    counts = np.bincount(codes.ravel(), minlength=K).astype(np.float32)
    chex.assert_trees_all_equal(result.statistics.counts, jnp.asarray(counts))


@pytest.mark.parametrize("kind", KINDS)
def test_table_that_nothing_fills_stays_what_it_is(kind, key):
    z, quantizer = normal(2, 2, 3, D, mean=5.0), tiny(kind, fill="none", codebook_decay=1.0)
    empty = quantizer.init(key, z, False)
    result, after = train(quantizer, empty, z, key)
    chex.assert_trees_all_close(table_of(after), table_of(empty), rtol=1e-4)
    codes = nearest_by_brute_force(z.reshape(-1, D), table_of(empty))
    np.testing.assert_array_equal(np.ravel(result.codes), codes)


@pytest.mark.parametrize("k", [16, 40], ids=["all", "more"])
def test_sampled_rows_are_the_same_on_any_number_of_devices(k, key):
    z = normal(16, D)
    alone = sample_rows(key, z, k, None)
    assert np.all(is_row_of(alone, z))
    assert len(np.unique(alone, axis=0)) == k or k > 16
    for devices in (1, 2, 4, 8):
        sample = sharded(
            lambda key, z: sample_rows(key, z, k, "data"), devices, (P(), P("data")), P()
        )
        chex.assert_trees_all_equal(sample(key, z), alone)


LEARNING: dict[str, Any] = {
    "codebook_decay": 0.5,
    "revive_below": 0.3,
    "matching": 0.1,
    "code_entropy": 0.1,
    "code_temperature": 0.5,
}
LEARNERS = {
    "ema": tiny(EMAQuantizer, fill="kmeans", **LEARNING),
    "ema, splitting": tiny(EMAQuantizer, revive_by="splitting", **LEARNING),
    "gradient": tiny(GradientQuantizer, fill="kmeans", **LEARNING),
    "diveq": tiny(DiVeQQuantizer, **LEARNING),
    "residual": ResidualQuantizer(codebook_size=9, code_dim=D, fill="kmeans", **LEARNING),
    "product": ProductQuantizer(codebook_size=9, code_dim=4, **LEARNING),
}


@pytest.mark.parametrize("alone", LEARNERS.values(), ids=LEARNERS)
@pytest.mark.parametrize("devices", [2, 8])
def test_training_on_several_devices_is_training_on_one(alone, devices, key):
    shared = alone.clone(axis_name="data")
    variables = alone.init(key, normal(1, 1, 1, alone.code_dim), False)

    def step(variables, z, key):
        result, state = train_and_update(shared, variables, z, key)
        loss = jax.lax.pmean(result.loss, "data")
        return (result.vectors, result.codes), (result.statistics, loss, state)

    split = P("data")
    step = sharded(step, devices, (P(), split, P()), (split, P()))
    for number in range(3):  # the first fills the codebook, the others also revive
        z = normal(8, 1, 2, alone.code_dim, seed=number)
        key = jax.random.fold_in(key, number)
        result, state = train(alone, variables, z, key)
        actual = step(variables, z, key)
        expected = (result.vectors, result.codes), (result.statistics, result.loss, state)
        chex.assert_trees_all_close(actual, expected, atol=1e-5)
        variables = state


@pytest.mark.parametrize(
    "alone",
    [
        tiny(EMAQuantizer, matching=1.0, fill="kmeans"),
        tiny(GradientQuantizer, matching=1.0),
        tiny(SimVQQuantizer),
        FSQQuantizer(fsq_levels=(4,) * D),
        BSQQuantizer(bits=D),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_evaluation_needs_no_mapped_axis(alone):
    z = normal(2, 2, 3, D)
    variables = random_variables(alone, z, False)
    expected = alone.apply(variables, z, False)
    shared = alone.clone(axis_name="data")
    chex.assert_trees_all_equal(shared.apply(variables, z, False), expected)


def test_initial_codes_are_uniform_up_to_one_over_the_root_of_their_width(key):
    codes = np.asarray(uniform_codes(key, (4096, 16)))
    assert np.abs(codes).max() <= 1 / 4
    np.testing.assert_allclose(codes.std(), 1 / 4 / np.sqrt(3), rtol=0.01)
    np.testing.assert_allclose(codes.mean(), 0, atol=0.005)
