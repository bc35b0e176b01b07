"""From a run to its model: refusals, and parameters against those of the checkpoint itself."""

import json
import shutil

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from avq.errors import InputError
from avq.trained import load_model


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a run: no config\.json in it"):
        load_model(tmp_path)


def test_run_of_another_task_is_refused_before_its_checkpoints_are_read(tmp_path):
    for name in ("config.json", "dataset.json"):
        (tmp_path / name).write_text('{"task": "regression", "data": {"batch_size": 8}}')
    with pytest.raises(InputError, match="is a run of another task"):
        load_model(tmp_path)


@pytest.mark.parametrize("section", ["data", "model"])
@pytest.mark.parametrize("value", ["3", "null", "[]", '"x"'])
def test_section_that_is_none_is_refused_in_one_line(section, value, tmp_path):
    sections = {"data": "{}", "model": "{}"} | {section: value}
    content = ", ".join(f'"{name}": {text}' for name, text in sections.items())
    for name in ("config.json", "dataset.json"):
        (tmp_path / name).write_text(f"{{{content}}}")
    with pytest.raises(InputError, match=r"^[^\n]*(lacks the section|holds no config)[^\n]*$"):
        load_model(tmp_path)


def test_run_without_a_checkpoint_is_refused(run, tmp_path):
    for name in ("config.json", "dataset.json"):
        shutil.copy(run / name, tmp_path)
    with pytest.raises(InputError, match="has no checkpoint yet"):
        load_model(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "dataset.json"}


def test_step_without_a_checkpoint_is_refused_by_its_number(run):
    with pytest.raises(InputError, match=r"has no checkpoint of step 1\. There are: 2\."):
        load_model(run, step=1)


def test_named_step_is_loaded(run):
    newest, named = load_model(run), load_model(run, step=2)
    assert newest.step == named.step == 2
    chex.assert_trees_all_equal(newest.variables, named.variables)


@pytest.mark.parametrize(("key", "value"), [("codebook_size", 9), ("levels", 1)])
def test_config_of_another_model_than_the_checkpoint_is_refused(key, value, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["model"][key] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"checkpoint 2 is of another model than its config\.json"):
        load_model(copy)


def test_checkpoint_is_a_tree_of_named_arrays_for_orbax_alone(run):
    folder = (run / "checkpoints" / "2").resolve()
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(folder / "state").item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(folder / "state", restore_args=as_numpy)
    assert set(state) == {"step", "players", "ema", "rng", "skipped"}
    assert set(state["players"]) == {"vqvae", "discriminator"}
    assert int(state["step"]) == 2
    player = state["players"]["vqvae"]
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
    averaged = load_model(run).variables
    chex.assert_trees_all_equal(averaged["params"], state["ema"]["params"])
    chex.assert_trees_all_equal(averaged["batch_stats"], state["ema"]["batch_stats"])
    chex.assert_trees_all_equal(averaged["codebook"], player["model_state"]["codebook"])
    trained = jax.tree.leaves(player["params"])
    assert any(map(np.any, map(np.not_equal, trained, jax.tree.leaves(averaged["params"]))))
