"""Weights of another run as the start of a new one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avq.checkpoint import Checkpoints
from avq.config import CONFIG
from avq.errors import InputError
from avq.train.state import AVERAGES, TrainState


def with_weights(state: TrainState, run: str, averaged: str) -> tuple[int, TrainState]:
    """A new run's state with the parameters and model state of the players that another run has,
    the averaged ones of the averaged player. Optimisers, averages of losses and other players stay
    as they are.

    Args:
        state: of the new run.
        run: folder of the other one, whose newest checkpoint is taken.
        averaged: the player that is evaluated.

    Returns:
        The step of the checkpoint, and the state.

    Raises:
        InputError: for a folder without a run, and for weights of other names or shapes.
    """
    if not (Path(run) / CONFIG).is_file():
        raise InputError(f"--init-from={run}: no {CONFIG} in it. Give the folder of a run.")
    with Checkpoints(Path(run), read_only=True) as checkpoints:
        step, other = checkpoints.restore_arrays()
    players, ema, flag = dict(state.players), state.ema, f"--init-from={run}"
    for name in players.keys() & other["players"].keys():
        there = other["players"][name]
        variables = {"params": there["params"], **(there.get("model_state") or {})}
        if name == averaged:
            variables |= other["ema"]
            ema = _placed(ema, other["ema"], f"{flag}: {name}")
        own = players[name]
        taken = _placed(_network(own.variables()), _network(variables), f"{flag}: {name}")
        params = taken.pop("params")
        players[name] = replace(own, params=params, model_state={**own.model_state, **taken})
    return step, replace(state, players=players, ema=ema)


def _network(variables: Mapping[str, Any]) -> dict[str, Any]:
    """All collections but the averages of losses, which runs of other losses do not have."""
    return {name: tree for name, tree in variables.items() if name != AVERAGES}


def _placed(target: Mapping[str, Any], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Values as arrays of their own, placed as those of a tree of the same names and shapes."""
    here, there = _shapes(target), _shapes(values)
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise InputError(
                f"{source}/{name} is {there.get(name, 'absent')} there and "
                f"{here.get(name, 'absent')} here. Give a run with the same settings of the model."
            )
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
