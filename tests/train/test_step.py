"""The training step, against the algebra of a task of two players."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avq import parallel
from avq.train.loop import compile_step
from avq.train.state import init_state

from .toy import BATCH, Toy, rows

SGD = {"a": optax.sgd(1.0), "b": optax.sgd(0.5)}


class Steps:
    """The compiled step of a toy task with settings of its optimisers."""

    def __init__(self, devices=1, optimizers=SGD, starts=None, **optim):
        self.task, self.mesh = Toy(**optim), parallel.make_mesh(devices)
        self.task.starts = starts or {}
        self.step = compile_step(self.task, optimizers, self.mesh)
        self.state = init_state(self.task, optimizers)

    def __call__(self, state=None, x=None, **frozen):
        """State and metrics after a step, on the host."""
        state = self.placed(self.state if state is None else state)
        batch = parallel.shard_batch({"x": rows() if x is None else x}, self.mesh)
        return jax.device_get(self.step(state, frozen, batch))

    def placed(self, state):
        return jax.device_put(jax.tree.map(np.array, state), parallel.replicated(self.mesh))


@pytest.fixture(scope="module")
def steps():
    return Steps(ema_decay=0.9)


def params(state):
    return np.asarray(state.players["a"].params), np.asarray(state.players["b"].params)


@pytest.mark.parametrize(
    ("devices", "accumulate"), [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (8, 1)]
)
def test_step_is_descent_along_the_gradient_of_the_whole_batch(devices, accumulate):
    steps = Steps(devices, accumulate=accumulate)
    x, (a, b) = rows(), params(steps.state)
    state, metrics = steps()
    # Both move at once: each gradient is at the other's parameters before the step.
    gradient_a, gradient_b = (x * (x @ a)[:, None]).mean(0) + b, x.mean(0) - a
    np.testing.assert_allclose(params(state)[0], a - gradient_a, rtol=1e-5)
    np.testing.assert_allclose(params(state)[1], b - 0.5 * gradient_b, rtol=1e-5)
    norm = metrics.means["gradient_norm/a"]
    np.testing.assert_allclose(norm, np.linalg.norm(gradient_a), rtol=1e-5)
    np.testing.assert_allclose(metrics.means["loss"], (x @ a).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics.counts["rows"], x.sum(0), rtol=1e-5)
    mean = state.players["a"].model_state["stats"]["mean"]
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    assert state.players["b"].model_state == {}
    assert int(state.step) == 1


@pytest.mark.parametrize("devices", [1, 2])
def test_codebook_is_filled_by_the_first_micro_batch_and_moved_once(devices):
    state, _ = Steps(devices, accumulate=4)()
    x = rows()
    # Row i is in micro-batch i modulo 4, whatever the number of devices.
    expected = x[0::4].sum(0) + x.sum(0) + 100
    found = state.players["a"].model_state["codebook"]["fill"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_codebook_that_is_filled_is_only_moved(steps):
    state, _ = steps()
    before = state.players["a"].model_state["codebook"]["fill"]
    x = rows(1)
    after, _ = steps(state, x)
    found = after.players["a"].model_state["codebook"]["fill"]
    np.testing.assert_allclose(found, before + x.sum(0) + 100, rtol=1e-5)


def test_late_player_is_updated_as_by_an_optimiser_that_begins_at_its_start():
    start, adam = 5, optax.adam(0.1)
    steps = Steps(optimizers={"a": optax.sgd(0.01), "b": adam}, starts={"b": start})
    state, first = steps.state, params(steps.state)[1]
    expected, opt_state = first, adam.init(first)
    for step in range(10):
        x, a = rows(step), params(state)[0]
        if step >= start:
            updates, opt_state = adam.update(x.mean(0) - a, opt_state)
            expected = expected + updates
        state, _ = steps(state, x)
        np.testing.assert_allclose(params(state)[1], expected, rtol=1e-5)
        if step == start - 1:
            np.testing.assert_array_equal(params(state)[1], first)
            chex.assert_trees_all_equal(
                state.players["b"].opt_state, jax.device_get(steps.state.players["b"].opt_state)
            )
        if step == start:
            assert np.abs(expected - first).max() < 0.1001  # the learning rate, not 15 times it


@pytest.mark.parametrize(("step", "keep"), [(0, 1 / 10), (5, 6 / 15), (80, 81 / 90), (1000, 0.9)])
def test_average_ramps_up_to_its_decay(steps, step, keep):
    before = steps.state.replace(step=jnp.int32(step))
    after, _ = steps(before)
    expected = keep * params(before)[0] + (1 - keep) * params(after)[0]
    np.testing.assert_allclose(after.ema["params"], expected, rtol=1e-5)
    mean = (1 - keep) * rows().mean(0)
    np.testing.assert_allclose(after.ema["stats"]["mean"], mean, rtol=1e-4, atol=1e-7)
    assert set(after.ema) == {"params", "stats"}  # a codebook is an average already
    variables = after.averaged_variables("a")
    np.testing.assert_array_equal(variables["params"], after.ema["params"])
    codebook = after.players["a"].model_state["codebook"]
    np.testing.assert_array_equal(variables["codebook"]["fill"], codebook["fill"])


def test_each_step_draws_from_the_run_s_key_folded_with_its_number(steps):
    key = jax.random.split(jax.random.key(3), 3)[0]
    for step in (0, 7):
        state, metrics = steps(steps.state.replace(step=jnp.int32(step)))
        expected = jax.random.uniform(jax.random.fold_in(key, step))
        np.testing.assert_allclose(metrics.means["draw"], expected, rtol=1e-6)
        assert metrics.means["step"] == step
        np.testing.assert_array_equal(state.rng, steps.state.rng)


def test_micro_batches_draw_from_the_step_s_key_folded_with_theirs():
    _, metrics = Steps(accumulate=2)()
    key = jax.random.fold_in(jax.random.split(jax.random.key(3), 3)[0], 0)
    draws = [jax.random.uniform(jax.random.fold_in(key, n)) for n in range(2)]
    np.testing.assert_allclose(metrics.means["draw"], np.mean(draws), rtol=1e-6)


def test_players_are_drawn_from_keys_of_their_own(steps):
    _, first, second = jax.random.split(jax.random.key(3), 3)
    for player, key in (("a", first), ("b", second)):
        expected = jax.random.normal(key, (3,))
        np.testing.assert_array_equal(steps.state.players[player].params, expected)


def test_frozen_values_reach_the_task(steps):
    a, _ = params(steps.state)
    x = rows()
    state, _ = steps(scale=jnp.float32(0.0))
    expected = a - (x * (x @ a)[:, None]).mean(0)
    np.testing.assert_allclose(params(state)[0], expected, rtol=1e-5)


def test_step_that_is_not_finite_is_left_out_and_counted():
    steps = Steps(skip_nonfinite=1)
    x = rows()
    x[0, 0] = np.nan
    after, metrics = steps(x=x)
    assert (int(after.step), int(after.skipped), int(metrics.means["skipped"])) == (1, 1, 1)
    kept = replace(steps.state, step=after.step, skipped=after.skipped)
    chex.assert_trees_all_equal(after, jax.device_get(kept))
    after, metrics = steps()
    assert (int(after.step), int(after.skipped), int(metrics.means["skipped"])) == (1, 0, 0)
    assert not np.array_equal(params(after)[0], params(steps.state)[0])


def test_step_that_is_not_finite_is_taken_where_none_may_be_left_out(steps):
    after, metrics = steps(x=np.full((BATCH, 3), np.nan, np.float32))
    assert np.isnan(params(after)[0]).all()
    assert int(after.skipped) == 0
    assert "skipped" not in metrics.means


def test_step_is_traced_once_and_donates_every_leaf(monkeypatch):
    steps = Steps(2, accumulate=2)
    traced = []
    gradients = steps.task.gradients

    def counted(*args):
        traced.append(1)
        return gradients(*args)

    monkeypatch.setattr(steps.task, "gradients", counted)
    state, batch = steps.placed(steps.state), parallel.shard_batch({"x": rows()}, steps.mesh)
    for _ in range(3):
        before = state
        state, _ = steps.step(state, {}, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert int(state.step) == 3
    assert len(traced) <= 3  # once for its shapes, and by the scan


def test_initial_average_shares_no_buffer_with_the_player(steps):
    state = init_state(steps.task, SGD)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size > 1]
    assert len(pointers) == len(set(pointers))
