"""Weights of a trained model as the start of a new run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avq.checkpoint import Checkpoints
from avq.config import CONFIG, completed, flatten, read_config
from avq.errors import InputError
from avq.shipped import located
from avq.train.state import AVERAGES, TrainState
from avq.train.task import Task
from avq.trained import PLAYER, is_released, load_model, model_folder


@dataclass(frozen=True)
class Weights:
    """Weights that fit a new run.

    Attributes:
        step: that they were trained to.
        players: collections of variables, by player; not of all the new run has.
        ema: of the averaged player.
    """

    step: int
    players: Mapping[str, Mapping[str, Any]]
    ema: Mapping[str, Any]


def read_weights(what: str, task: Task, target: TrainState) -> Weights:
    """Reads weights for a new run: parameters and model state of the players that the other one
    has, the averaged ones of the averaged player.

    Args:
        what: folder of a run, whose newest checkpoint is taken, or a released model, as
            `avq.trained.load_model` takes it.
        task: of the new run.
        target: its state, or shapes of one.

    Raises:
        InputError: when there is no such model, and for weights of other names or shapes.
    """
    flag = f"--init-from={what}"
    try:
        config, weights = _read(what, task.averaged, target)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error
    if task.averaged not in weights.players:
        raise InputError(f"{flag} holds no weights of {task.averaged}. Give a run of this task.")
    for name, variables in weights.players.items():
        own = _network(target.players[name].variables())
        if problem := _difference(_shapes(own), _shapes(variables)):
            settings = "; ".join(_settings(config, task, name)) or f"{name}/{problem}"
            raise InputError(f"{flag}: {settings}. Give the same settings, or other weights.")
    return weights


def with_weights(state: TrainState, weights: Weights) -> TrainState:
    """A new run's state with other weights. Optimisers, averages of losses and players that these
    do not have stay as they are.
    """
    players = dict(state.players)
    for name, variables in weights.players.items():
        own = players[name]
        taken = _placed(_network(own.variables()), variables)
        params = taken.pop("params")
        players[name] = replace(own, params=params, model_state={**own.model_state, **taken})
    return replace(state, players=players, ema=_placed(state.ema, weights.ema))


def _read(what: str, averaged: str, target: TrainState) -> tuple[Mapping[str, Any], Weights]:
    """Config and weights of a model."""
    if is_released(model_folder(what)):
        trained = load_model(what)
        ema = {name: trained.variables[name] for name in target.ema if name in trained.variables}
        players = {PLAYER: trained.variables}
        return trained.config, Weights(trained.step, players, ema)
    run = located(what)
    config = read_config(run)
    if config is None:
        raise InputError(f"no {CONFIG} in it. Give the folder of a run.")
    with Checkpoints(run, read_only=True) as checkpoints:
        step, state = checkpoints.restore_arrays()
    players = {}
    for name in target.players.keys() & state["players"].keys():
        there = state["players"][name]
        variables = {"params": there["params"], **(there.get("model_state") or {})}
        players[name] = _network(variables | (state["ema"] if name == averaged else {}))
    return config, Weights(step, players, state["ema"])


def _network(variables: Mapping[str, Any]) -> dict[str, Any]:
    """All collections but the averages of losses, which runs of other losses do not have."""
    return {name: tree for name, tree in variables.items() if name != AVERAGES}


def _settings(config: Mapping[str, Any], task: Task, player: str) -> list[str]:
    """Settings of the model, of a player and of the images' channels that differ, with both
    values.
    """
    deciding = ("model.", f"{player}.", "data.channels")
    there, here = (flatten(each) for each in (completed(config, task.sections()), task.config))
    return [
        f"{key} is {there.get(key)} there and {value} here"
        for key, value in here.items()
        if key.startswith(deciding) and there.get(key) != value
    ]


def _difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The first array whose shapes differ, with both; empty where none does."""
    for name in [*here, *there]:
        ours, theirs = here.get(name, "absent"), there.get(name, "absent")
        if ours != theirs:
            return f"{name} is {theirs} there and {ours} here"
    return ""


def _placed(target: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as arrays of their own, placed as those of a tree of the same names and shapes."""
    leaves = [  # copies, since on a CPU `device_put` may only borrow numpy's memory
        jnp.copy(jax.device_put(np.asarray(new, old.dtype), old.sharding))
        for old, new in zip(jax.tree.leaves(target), jax.tree.leaves(values), strict=True)
    ]
    placed: dict[str, Any] = jax.tree.unflatten(jax.tree.structure(target), leaves)
    return placed


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of a tree's arrays by path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
