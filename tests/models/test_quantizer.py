"""Quantisers against brute force and numpy's own moving averages, on one device and on several."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from avq.models.quantizer import (
    EPSILON,
    FRESH_USE,
    Quantizer,
    code_counts,
    perplexity,
    sample_rows,
)

from .model_helpers import normal, random_variables, sharded

K, D = 6, 3
UPDATES = ("ema", "gradient")


def nearest_by_brute_force(z, table):
    z, table = np.asarray(z, np.float64), np.asarray(table, np.float64)
    return np.argmin(((z[:, None] - table) ** 2).sum(-1), axis=1)


def train_and_learn(quantizer, variables, z, key):
    """Result of a training call, and all variables after the codebook has learned from it."""
    rngs, mutable = {"codebook": key}, ["codebook"]
    result, filled = quantizer.apply(variables, z, True, mutable=mutable, rngs=rngs)
    _, learned = quantizer.apply(
        variables | filled, result.statistics, mutable=mutable, method="learn"
    )
    return result, variables | learned


train = jax.jit(train_and_learn, static_argnums=0)


def train_ema(quantizer, variables, z, key):
    """Result of a training call and the codebook's state after it."""
    result, variables = train(quantizer, variables, z, key)
    return result, variables["codebook"]


def table_of(variables):
    return jax.tree.leaves({k: v["embedding"] for k, v in variables.items()})[0]


def ema_by_numpy(state, z, decay):
    """One step of the moving averages and the codebook that follows from them."""
    state = {k: np.asarray(v, np.float64) for k, v in state.items()}
    codes = nearest_by_brute_force(z, state["embedding"])
    counts, sums = np.zeros(K), np.zeros((K, D))
    for code, row in zip(codes, np.asarray(z, np.float64), strict=True):
        counts[code] += 1
        sums[code] += row
    counts = decay * state["counts"] + (1 - decay) * counts
    sums = decay * state["sums"] + (1 - decay) * sums
    smoothed = (counts + EPSILON) / (counts.sum() + K * EPSILON) * counts.sum()
    return {"counts": counts, "sums": sums, "embedding": sums / smoothed[:, None]}


def as_float32(tree):
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float32)), tree)


def consistent_state(counts, table):
    """Moving averages of a codebook whose every code sits at the mean of what chose it."""
    counts, table = np.asarray(counts, np.float32), np.asarray(table, np.float32)
    state = {"counts": counts, "embedding": table, "sums": table * counts[:, None]}
    return {"codebook": jax.tree.map(jnp.asarray, state)}


def is_row_of(rows, batch, atol=0.0):
    """For each of `rows`, whether it is one of `batch`."""
    rows, batch = np.asarray(rows), np.asarray(batch).reshape(-1, D)
    distance = np.max(np.abs(rows.reshape(-1, 1, D) - batch), axis=-1)
    return np.min(distance, axis=1) <= atol


def test_code_counts_are_numpys():
    codes = np.random.default_rng(0).integers(0, K - 1, 40).astype(np.int32)
    expected = np.bincount(codes, minlength=K).astype(np.float32)
    chex.assert_trees_all_equal(code_counts(jnp.asarray(codes), K), jnp.asarray(expected))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([3, 3, 3, 3, 3], 5),
        ([0, 7, 0], 1),
        ([2, 2, 0], 2),
        ([4, 2, 1, 1], 2 ** (0.5 * 1 + 0.25 * 2 + 0.25 * 3)),
    ],
)
def test_perplexity_is_the_exponential_of_the_entropy(counts, expected):
    actual = perplexity(jnp.asarray(counts, jnp.float32))
    chex.assert_trees_all_close(actual, jnp.float32(expected), rtol=1e-5)


@pytest.mark.parametrize("update", UPDATES)
def test_straight_through_gradient_is_the_identity(update, key):
    z, weight = normal(2, 2, 3, D), normal(2, 2, 3, D, seed=1)
    quantizer = Quantizer(K, D, update, commitment=0.0)
    variables = random_variables(quantizer, z, False)

    def weighted(z, variables):
        result, _ = train(quantizer, variables, z, key)
        return jnp.sum(weight * result.vectors)

    to_input, to_codebook = jax.jit(jax.grad(weighted, (0, 1)))(z, variables)
    chex.assert_trees_all_equal(to_input, weight)
    chex.assert_trees_all_equal(to_codebook, jax.tree.map(jnp.zeros_like, variables))


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("update", UPDATES)
def test_beta_weighs_the_pull_on_the_input_and_not_the_one_on_the_codes(update, beta, key):
    z = normal(2, 2, 3, D)
    quantizer = Quantizer(K, D, update, commitment=beta)
    variables = random_variables(quantizer, z, False)

    def loss(z, variables):
        return train(quantizer, variables, z, key)[0].loss

    value, (to_input, to_codebook) = jax.jit(jax.value_and_grad(loss, (0, 1)))(z, variables)

    rows, table = np.asarray(z, np.float64).reshape(-1, D), np.asarray(table_of(variables))
    codes = nearest_by_brute_force(rows, table)
    gap = rows - table[codes]
    pull = np.zeros((K, D))
    np.add.at(pull, codes, -2 * gap / gap.size)
    weight = beta + (update == "gradient")
    chex.assert_trees_all_close(value, np.float32(weight * np.mean(gap**2)), rtol=1e-5)
    expected = as_float32((2 * beta * gap / gap.size).reshape(z.shape))
    chex.assert_trees_all_close(to_input, expected, rtol=1e-5, atol=1e-7)
    if update == "gradient":
        expected = {"params": {"embedding": as_float32(pull)}}
        chex.assert_trees_all_close(to_codebook, expected, rtol=1e-5, atol=1e-7)
    else:
        chex.assert_trees_all_equal(to_codebook, jax.tree.map(jnp.zeros_like, variables))


@pytest.mark.parametrize("update", UPDATES)
def test_training_vectors_are_the_chosen_codes(update, key):
    z = normal(2, 2, 3, D)
    quantizer = Quantizer(K, D, update)
    variables = random_variables(quantizer, z, False)
    result, _ = train(quantizer, variables, z, key)
    codes = nearest_by_brute_force(z.reshape(-1, D), table_of(variables)).reshape(2, 2, 3)
    np.testing.assert_array_equal(result.codes, codes)
    chex.assert_type(result.codes, jnp.int32)
    chex.assert_trees_all_close(result.vectors, np.asarray(table_of(variables))[codes], atol=1e-6)


def test_moving_averages_are_numpys_over_several_steps(key):
    quantizer = Quantizer(K, D, decay=0.8, revive_below=0.0)
    state = random_variables(quantizer, normal(1, 1, 1, D), False)["codebook"]
    expected = state
    for step in range(3):
        z = normal(2, 2, 4, D, seed=step)
        _, state = train_ema(quantizer, {"codebook": state}, z, key)
        expected = ema_by_numpy(expected, z.reshape(-1, D), decay=0.8)
        chex.assert_trees_all_close(state, as_float32(expected), rtol=1e-4, atol=1e-5)


def test_code_moves_to_the_mean_of_what_chooses_it(key):
    quantizer = Quantizer(2, D, decay=0.5)
    z = normal(2, 4, 4, D, mean=5.0)
    variables = consistent_state([1, 1], [[5.0] * D, [-5.0] * D])
    for step in range(30):
        _, state = train_ema(quantizer, variables, z, jax.random.fold_in(key, step))
        variables = {"codebook": state}
    # by then the second code, never chosen, was dropped into the batch
    codes = nearest_by_brute_force(z.reshape(-1, D), state["embedding"])
    for code in range(2):
        mean = np.mean(np.reshape(z, (-1, D))[codes == code], axis=0)
        chex.assert_trees_all_close(state["embedding"][code], mean, atol=1e-3)


def test_init_leaves_the_codebook_empty_of_the_batch(key):
    z = normal(2, 2, 4, D)
    state = Quantizer(K, D).init(key, z, True)["codebook"]
    for name in ("counts", "sums"):
        chex.assert_trees_all_equal(state[name], jnp.zeros_like(state[name]))
    assert not np.any(is_row_of(state["embedding"], z, atol=1e-3))


def test_first_batch_fills_the_codebook_with_its_own_rows(key):
    z = normal(2, 2, 4, D)
    quantizer = Quantizer(K, D, decay=1.0)  # keeps the fill, takes in nothing after it
    variables = consistent_state(np.zeros(K), normal(K, D, seed=1))
    result, state = train_ema(quantizer, variables, z, key)
    rows = state["embedding"]
    light = FRESH_USE * 16 / K
    assert np.all(is_row_of(rows, z, atol=1e-5))
    assert len(np.unique(np.round(rows, 3), axis=0)) == K
    chex.assert_trees_all_close(state["counts"], jnp.full(K, light), rtol=1e-6)
    chex.assert_trees_all_close(state["sums"], light * np.asarray(rows), rtol=1e-5)
    assert np.all(is_row_of(result.vectors, z, atol=1e-5))

    blended = Quantizer(K, D, decay=0.9)
    _, actual = train_ema(blended, variables, z, key)
    expected = ema_by_numpy(state, z.reshape(-1, D), decay=0.9)
    chex.assert_trees_all_close(actual, as_float32(expected), rtol=1e-4, atol=1e-5)


def test_second_batch_does_not_refill_the_codebook(key):
    quantizer = Quantizer(K, D)
    variables = consistent_state(np.zeros(K), normal(K, D, seed=1))
    _, first = train_ema(quantizer, variables, normal(2, 2, 4, D), key)
    z = normal(2, 2, 4, D, mean=100.0)
    result, _ = train_ema(quantizer, {"codebook": first}, z, key)
    assert np.all(is_row_of(result.vectors, first["embedding"], atol=1e-4))


def test_dead_code_is_revived_from_the_batch_and_live_codes_are_not_touched(key):
    z, mean_use, decay = normal(2, 2, 3, D), 12 / K, 0.5
    table = np.concatenate([normal(4, D, seed=1), normal(2, D, mean=50.0)])  # two out of reach
    counts = np.array([1, 1, 1, 1, 0.031 / decay, 0.029 / decay]) * mean_use
    variables = consistent_state(counts, table)
    quantizer, keeper = (Quantizer(K, D, decay=decay, revive_below=b) for b in (0.03, 0.0))
    _, state = train_ema(quantizer, variables, z, key)
    _, kept = train_ema(keeper, variables, z, key)

    state, kept = jax.tree.map(np.asarray, (state, kept))
    live, as_kept = (jax.tree.map(lambda a: a[:5], s) for s in (state, kept))
    chex.assert_trees_all_close(live, as_kept, rtol=1e-4)
    assert not is_row_of(kept["embedding"][5:], z, atol=1e-3)
    assert is_row_of(state["embedding"][5:], z, atol=1e-3)
    fresh = FRESH_USE * mean_use
    chex.assert_trees_all_close(state["counts"][5], jnp.float32(fresh), rtol=1e-6)
    expected = np.float32(fresh) * np.asarray(state["embedding"][5])
    chex.assert_trees_all_close(state["sums"][5], expected, rtol=1e-3)


def test_revived_codes_follow_the_key():
    z = normal(4, 4, 4, D)
    variables = consistent_state([1, 0, 0, 0, 0, 0], normal(K, D, mean=50.0))
    quantizer = Quantizer(K, D)
    states = [train_ema(quantizer, variables, z, jax.random.key(seed))[1] for seed in (0, 0, 1)]
    chex.assert_trees_all_equal(states[0], states[1])
    assert np.any(states[0]["embedding"] != np.asarray(states[2]["embedding"]))


@pytest.mark.parametrize("update", UPDATES)
def test_evaluation_returns_exact_codes_and_changes_nothing(update):
    z = normal(2, 2, 3, D)
    quantizer = Quantizer(K, D, update)
    variables = random_variables(quantizer, z, False)
    result, state = quantizer.apply(variables, z, False, mutable=["codebook"])
    codes = nearest_by_brute_force(z.reshape(-1, D), table_of(variables)).reshape(2, 2, 3)
    chex.assert_trees_all_equal(result.vectors, np.asarray(table_of(variables))[codes])
    looked_up = quantizer.apply(variables, result.codes, method="lookup")
    chex.assert_trees_all_equal(looked_up, result.vectors)
    if update == "ema":
        chex.assert_trees_all_equal(state, variables)
    counts = np.bincount(codes.ravel(), minlength=K) / codes.size
    entropy = -sum(p * np.log(p) for p in counts if p > 0)
    chex.assert_trees_all_close(
        perplexity(result.statistics.counts), np.float32(np.exp(entropy)), rtol=1e-5
    )


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bfloat16_input_is_quantised_in_float32(training, key):
    z = normal(2, 2, 3, D).astype(jnp.bfloat16)
    quantizer = Quantizer(K, D)
    variables = random_variables(quantizer, z, False)

    @jax.jit
    def apply(z):
        rngs = {"codebook": key}
        return quantizer.apply(variables, z, training, mutable=["codebook"], rngs=rngs)

    result, state = apply(z)
    chex.assert_type(jax.tree.leaves((result.vectors, result.loss, state)), jnp.float32)
    chex.assert_trees_all_close((result, state), apply(z.astype(jnp.float32)), rtol=1e-6)


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


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("devices", [1, 2, 8])
def test_training_on_several_devices_is_training_on_one(update, devices, key):
    fields = {"decay": 0.5, "revive_below": 0.3}
    alone = Quantizer(K, D, update, **fields)
    shared = Quantizer(K, D, update, axis_name="data", **fields)
    variables = random_variables(alone, normal(1, 1, 1, D), False)
    if update == "ema":
        variables = consistent_state(np.zeros(K), normal(K, D, seed=9))

    def step(variables, z, key):
        result, state = train_and_learn(shared, variables, z, key)
        loss = jax.lax.pmean(result.loss, "data")
        return (result.vectors, result.codes), (result.statistics, loss, state)

    split = P("data")
    step = sharded(step, devices, (P(), split, P()), (split, P()))
    for number in range(3):  # the first fills the codebook, the others also revive
        z, key = normal(8, 1, 2, D, seed=number), jax.random.fold_in(key, number)
        result, state = train(alone, variables, z, key)
        found = step(variables, z, key)
        expected = (result.vectors, result.codes), (result.statistics, result.loss, state)
        chex.assert_trees_all_close(found, expected, atol=1e-5)
        variables = state


def test_statistics_of_micro_batches_in_turns_add_up_to_those_of_the_batch(key):
    quantizer = Quantizer(K, D, revive_below=0.0)
    variables = consistent_state(np.ones(K), normal(K, D, seed=1))
    z = normal(4, 2, 3, D)
    whole, after = train(quantizer, variables, z, key)
    parts = [
        train(quantizer, variables, part, jax.random.fold_in(key, i))[0].statistics.in_turns(i, 2)
        for i, part in enumerate((z[:2], z[2:]))
    ]
    total = jax.tree.map(jnp.add, *parts)
    chex.assert_trees_all_equal(total.counts, whole.statistics.counts)
    chex.assert_trees_all_close(total.sums, whole.statistics.sums, atol=1e-5)
    assert np.all(is_row_of(total.rows[0::2], z[:2]))
    assert np.all(is_row_of(total.rows[1::2], z[2:]))
    _, state = quantizer.apply(variables, total, mutable=["codebook"], method="learn")
    chex.assert_trees_all_close(state["codebook"], after["codebook"], atol=1e-5)


def test_unknown_update_is_refused_by_name(key, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a user runs without it
    with pytest.raises(ValueError, match="'kmeans' is not one of ema, gradient"):
        Quantizer(K, D, "kmeans").init(key, normal(1, 2, 2, D), False)
