"""EMA quantiser against numpy's own moving averages."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.quantizers.ema import EPSILON, EMAQuantizer
from avq.models.quantizers.filled import FRESH_USE, SPLIT

from ..model_helpers import normal, random_variables
from .quantizer_helpers import (
    D,
    K,
    as_float32,
    consistent_state,
    is_row_of,
    nearest_by_brute_force,
    tiny,
    train,
)


def train_ema(quantizer, variables, z, key):
    """Result of a training call and the codebook's state after it."""
    result, variables = train(quantizer, variables, z, key)
    return result, variables["codebook"]


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
    chosen = np.isin(np.arange(K), codes)[:, None]
    table = np.where(chosen, sums / smoothed[:, None], state["embedding"])
    return {"counts": counts, "sums": sums, "embedding": table}


def test_moving_averages_are_numpys_over_several_steps(key):
    quantizer = tiny(codebook_decay=0.8, revive_below=0.0)
    state = random_variables(quantizer, normal(1, 1, 1, D), False)["codebook"]
    expected = state
    for step in range(3):
        z = normal(2, 2, 4, D, seed=step)
        _, state = train_ema(quantizer, {"codebook": state}, z, key)
        expected = ema_by_numpy(expected, z.reshape(-1, D), decay=0.8)
        chex.assert_trees_all_close(state, as_float32(expected), rtol=1e-4, atol=1e-5)


def test_code_moves_to_the_mean_of_what_chooses_it(key):
    quantizer = EMAQuantizer(codebook_size=2, code_dim=D, codebook_decay=0.5)
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
    state = tiny().init(key, z, True)["codebook"]
    for name in ("counts", "sums"):
        chex.assert_trees_all_equal(state[name], jnp.zeros_like(state[name]))
    assert not np.any(is_row_of(state["embedding"], z, atol=1e-3))


def test_first_batch_fills_the_codebook_with_its_own_rows(key):
    z = normal(2, 2, 4, D)
    quantizer = tiny(codebook_decay=1.0)  # keeps the fill, takes in nothing after it
    variables = consistent_state(np.zeros(K), normal(K, D, seed=1))
    result, state = train_ema(quantizer, variables, z, key)
    rows = state["embedding"]
    light = FRESH_USE * 16 / K
    assert np.all(is_row_of(rows, z, atol=1e-5))
    assert len(np.unique(np.round(rows, 3), axis=0)) == K
    chex.assert_trees_all_close(state["counts"], jnp.full(K, light), rtol=1e-6)
    chex.assert_trees_all_close(state["sums"], light * np.asarray(rows), rtol=1e-5)
    assert np.all(is_row_of(result.vectors, z, atol=1e-5))

    blended = tiny(codebook_decay=0.9)
    _, actual = train_ema(blended, variables, z, key)
    expected = ema_by_numpy(state, z.reshape(-1, D), decay=0.9)
    chex.assert_trees_all_close(actual, as_float32(expected), rtol=1e-4, atol=1e-5)


def test_second_batch_does_not_refill_the_codebook(key):
    quantizer = tiny()
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
    quantizer, keeper = (tiny(codebook_decay=decay, revive_below=b) for b in (0.03, 0.0))
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


def test_dead_code_takes_half_of_the_most_used_one(key):
    """Of codes 0 to 3, in falling order of use, 1 and 2 halve; 4 and 5 are out of reach."""
    z, keep = normal(2, 2, 3, D), 0.999
    near = normal(4, D, seed=1)
    variables = consistent_state(
        [1.0, 9.0, 4.0, 2.0, 1e-4, 1e-3], np.concatenate([near, normal(2, D, mean=50.0)])
    )
    split, keeper = (
        tiny(codebook_decay=keep, revive_below=below, revive_by="splitting")
        for below in (0.03, 0.0)
    )
    _, state = train_ema(split, variables, z, key)
    _, kept = train_ema(keeper, variables, z, key)
    state, kept = jax.tree.map(np.asarray, (state, kept))
    counts = kept["counts"]
    shares = [counts[0], counts[1] / 2, counts[2] / 2, counts[3], counts[1] / 2, counts[2] / 2]
    np.testing.assert_allclose(state["counts"], shares, rtol=1e-5)
    np.testing.assert_allclose(state["embedding"][:4], kept["embedding"][:4], rtol=1e-4)
    table = np.asarray(variables["codebook"]["embedding"])
    for child, parent in ((4, 1), (5, 2)):
        step = (state["embedding"][child] - table[parent]) / SPLIT
        assert is_row_of(table[parent] + step, z, atol=1e-2)


def test_code_that_finds_no_living_one_to_split_becomes_a_latent(key):
    z = normal(2, 2, 3, D)
    variables = consistent_state([1, 0, 0, 0, 0, 0], normal(K, D, mean=50.0))
    quantizer = tiny(codebook_decay=0.999, revive_by="splitting")
    _, state = train_ema(quantizer, variables, z, key)
    parents = np.asarray(variables["codebook"]["embedding"])
    assert np.abs(state["embedding"][1] - parents[0]).max() < 1
    assert np.all(is_row_of(state["embedding"][2:], z, atol=1e-3))


def test_code_that_nothing_chooses_keeps_its_vector_where_none_is_revived(key):
    quantizer = tiny(codebook_decay=0.01, revive_below=0.0)
    table = np.concatenate([normal(K - 1, D, seed=1), normal(1, D, mean=50.0)])  # one out of reach
    variables = consistent_state(np.ones(K), table)
    for step in range(30):  # its count falls to 0 in float32
        _, state = train_ema(quantizer, variables, normal(2, 2, 3, D, seed=step), key)
        variables = {"codebook": state}
    assert state["counts"][-1] == 0
    chex.assert_trees_all_equal(state["embedding"][-1], jnp.asarray(table[-1], jnp.float32))


def test_revived_codes_follow_the_key():
    z = normal(4, 4, 4, D)
    variables = consistent_state([1, 0, 0, 0, 0, 0], normal(K, D, mean=50.0))
    quantizer = tiny()
    states = [train_ema(quantizer, variables, z, jax.random.key(seed))[1] for seed in (0, 0, 1)]
    chex.assert_trees_all_equal(states[0], states[1])
    assert np.any(states[0]["embedding"] != np.asarray(states[2]["embedding"]))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bfloat16_input_is_quantised_in_float32(training, key):
    z = normal(2, 2, 3, D).astype(jnp.bfloat16)
    quantizer = tiny()
    variables = random_variables(quantizer, z, False)

    @jax.jit
    def apply(z):
        rngs = {"codebook": key}
        return quantizer.apply(variables, z, training, mutable=["codebook"], rngs=rngs)

    result, state = apply(z)
    chex.assert_type(jax.tree.leaves((result.vectors, result.loss, state)), jnp.float32)
    chex.assert_trees_all_close((result, state), apply(z.astype(jnp.float32)), rtol=1e-6)


def test_statistics_of_micro_batches_in_turns_add_up_to_those_of_the_batch(key):
    quantizer = tiny(revive_below=0.0)
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
    assert np.all(is_row_of(total.candidates[0::2], z[:2]))
    assert np.all(is_row_of(total.candidates[1::2], z[2:]))
    _, state = quantizer.apply(variables, total, mutable=["codebook"], method="update")
    chex.assert_trees_all_close(state["codebook"], after["codebook"], atol=1e-5)
