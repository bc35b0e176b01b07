"""Weights of another run as the start of a new one."""

from dataclasses import replace

import chex
import jax
import numpy as np
import optax
import pytest

from avq.checkpoint import Checkpoints
from avq.config import write_config
from avq.errors import InputError
from avq.train.initial import with_weights
from avq.train.state import init_state

from .toy import Toy

ADAM = dict.fromkeys("ab", optax.adam(0.1))


def moved(tree, by):
    return jax.tree.map(lambda a: a + by, tree)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run whose step 7 is saved, and its state."""
    run, task = tmp_path_factory.mktemp("runs") / "trained", Toy()
    state = init_state(task, ADAM)
    players = {name: moved(player, 3) for name, player in state.players.items()}
    state = replace(state, step=state.step + 7, players=players, ema=moved(state.ema, 5))
    with Checkpoints(run) as checkpoints:
        checkpoints.save(7, state, {})
    write_config(run, task.config)
    return str(run), state


def test_weights_are_the_averaged_ones_and_optimisers_are_fresh(trained):
    run, source = trained
    new = init_state(Toy(), ADAM)
    step, state = with_weights(new, run, "a")
    assert (step, int(state.step)) == (7, 0)
    chex.assert_trees_all_equal(state.ema, source.ema)
    a, b = state.players["a"], state.players["b"]
    chex.assert_trees_all_equal(a.params, source.ema["params"])
    chex.assert_trees_all_equal(a.model_state["stats"], source.ema["stats"])
    chex.assert_trees_all_equal(
        a.model_state["codebook"], source.players["a"].model_state["codebook"]
    )
    chex.assert_trees_all_equal(b.params, source.players["b"].params)
    for name in "ab":
        chex.assert_trees_all_equal(state.players[name].opt_state, new.players[name].opt_state)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size > 1]
    assert len(pointers) == len(set(pointers))  # all of it is donated


def test_player_that_the_other_run_has_not_stays_as_it_is(trained):
    new = init_state(Toy(), ADAM)
    named = replace(new, players={"a": new.players["a"], "c": new.players["b"]})
    _, state = with_weights(named, trained[0], "a")
    np.testing.assert_array_equal(state.players["c"].params, new.players["b"].params)


def test_averages_of_losses_stay_as_they_are(trained):
    new = init_state(Toy(), ADAM)
    averages = {"averages": {"mean": np.float32(2)}}
    with_averages = replace(new.players["b"], model_state=averages)
    new = replace(new, players={**new.players, "b": with_averages})
    _, state = with_weights(new, trained[0], "a")
    assert state.players["b"].model_state == averages
    chex.assert_trees_all_equal(state.players["b"].params, trained[1].players["b"].params)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (np.zeros(4), r"runs?.*: b/params is \(3,\) there and \(4,\) here\. Give a run with"),
        ({"w": np.zeros(3)}, r": b/params/w is absent there and \(3,\) here"),
    ],
)
def test_weights_of_another_shape_or_name_are_refused(trained, variables, message):
    new = init_state(Toy(), ADAM)
    other = replace(new.players["b"], params=variables)
    with pytest.raises(InputError, match=message):
        with_weights(replace(new, players={**new.players, "b": other}), trained[0], "a")


def test_folder_without_a_run_is_refused_and_left_alone(tmp_path):
    new = init_state(Toy(), ADAM)
    with pytest.raises(InputError, match=r"--init-from=.*: no config\.json in it"):
        with_weights(new, str(tmp_path / "none"), "a")
    assert list(tmp_path.iterdir()) == []
