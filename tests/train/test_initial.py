"""Weights of another run as the start of a new one."""

from dataclasses import replace
from functools import partial

import chex
import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from avq import tasks
from avq.apply.export import export
from avq.checkpoint import Checkpoints
from avq.config import read_config, write_config
from avq.errors import InputError
from avq.main import main
from avq.train.initial import read_weights, with_weights
from avq.train.loop import optimizers_of
from avq.train.state import init_state
from avq.trained import load_model

from .toy import Toy

ADAM = dict.fromkeys("ab", optax.adam(0.1))


def started(state, run):
    """A new run's state with the weights of a run."""
    return with_weights(state, read_weights(run, Toy(), state))


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
    assert read_weights(run, Toy(), new).step == 7
    state = started(new, run)
    assert int(state.step) == 0
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
    state = started(named, trained[0])
    np.testing.assert_array_equal(state.players["c"].params, new.players["b"].params)


def test_averages_of_losses_stay_as_they_are(trained):
    new = init_state(Toy(), ADAM)
    averages = {"averages": {"mean": np.float32(2)}}
    with_averages = replace(new.players["b"], model_state=averages)
    new = replace(new, players={**new.players, "b": with_averages})
    state = started(new, trained[0])
    assert state.players["b"].model_state == averages
    chex.assert_trees_all_equal(state.players["b"].params, trained[1].players["b"].params)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (np.zeros(4), r"runs?.*: b/params is \(3,\) there and \(4,\) here\. Give the same"),
        ({"w": np.zeros(3)}, r": b/params/w is absent there and \(3,\) here"),
    ],
)
def test_weights_of_another_shape_or_name_are_refused(trained, variables, message):
    new = init_state(Toy(), ADAM)
    other = replace(new.players["b"], params=variables)
    with pytest.raises(InputError, match=message):
        read_weights(trained[0], Toy(), replace(new, players={**new.players, "b": other}))


@pytest.fixture(scope="module")
def small(run):
    """Task of the shared run, and shapes of its state."""
    task = tasks.make_task(ConfigDict(read_config(run)))
    return task, jax.eval_shape(partial(init_state, task, optimizers_of(task)))


def test_released_model_gives_the_weights_of_its_run(run, small, tmp_path):
    export(load_model(run), tmp_path, "")
    released, own = (read_weights(str(what), *small) for what in (tmp_path, run))
    assert released.step == own.step == 2
    assert own.players.keys() - released.players.keys() == {"discriminator"}
    chex.assert_trees_all_equal(released.players["vqvae"], own.players["vqvae"])
    chex.assert_trees_all_equal(released.ema, own.ema)


@pytest.mark.parametrize("what", ["photos", "{run}"])
def test_other_settings_of_the_model_are_named_and_nothing_is_left_behind(
    run, smoke, tmp_path, capsys, what
):
    other = ["--config.model.codebook_size=16", "--config.data.channels=1"]
    new, what = tmp_path / "new", what.format(run=run)
    assert main([*smoke, *other, f"--workdir={new}", f"--init-from={what}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    there = 1024 if what == "photos" else 8
    assert line.startswith(f"error: --init-from={what}: ")
    assert f"model.codebook_size is {there} there and 16 here" in line
    assert "data.channels is 3 there and 1 here" in line
    assert not new.exists()


def test_run_of_another_task_is_refused(run):
    with pytest.raises(InputError, match=r"holds no weights of a\. Give a run of this task"):
        read_weights(str(run), Toy(), init_state(Toy(), ADAM))


def test_folder_without_a_run_is_refused_and_left_alone(tmp_path):
    new = init_state(Toy(), ADAM)
    with pytest.raises(
        InputError, match=r"--init-from=.*/none: no such run, folder, file or model"
    ):
        read_weights(str(tmp_path / "none"), Toy(), new)
    with pytest.raises(InputError, match=r"--init-from=.*: no config\.json in it"):
        read_weights(str(tmp_path), Toy(), new)
    assert list(tmp_path.iterdir()) == []
