"""A trained model: from a run to its module, variables and config."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from avq.checkpoint import Checkpoints
from avq.config import (
    CONFIG,
    DATASET,
    completed,
    input_errors,
    read_config,
    require_valid_config,
)
from avq.data.settings import Data
from avq.errors import InputError
from avq.json_files import read_json
from avq.models.build import make_autoencoder, model_kinds
from avq.models.vqvae import VQVAE

PLAYER = "vqvae"  # name of the autoencoder in a checkpoint


@dataclass
class TrainedModel:
    """A run's model, for those who only use it.

    Attributes:
        model: the module.
        variables: averaged parameters and batch statistics, codebooks.
        config: of the run.
        dataset: content of the run's `dataset.json`.
        step: of the checkpoint.
    """

    model: VQVAE
    variables: dict[str, Any]
    config: dict[str, Any]
    dataset: dict[str, Any]
    step: int


def load_model(run: str | Path, step: int | None = None) -> TrainedModel:
    """Restores the averaged autoencoder of a run from its newest checkpoint that can be read, or
    from that of `step`.

    Raises:
        InputError: when the folder holds no run, no such checkpoint, a config with unknown keys, or
            a checkpoint of another model than the config's.
    """
    run = Path(run)
    config, dataset = read_config(run), read_json(run / DATASET)
    if config is None or dataset is None:
        missing = CONFIG if config is None else DATASET
        raise InputError(
            f"{str(run)!r} is not a run: no {missing} in it. Give the --workdir of a training run."
        )
    if "model" not in config:
        raise InputError(f"{str(run)!r} is a run of another task. Give a run of an autoencoder.")
    sections = {"model": model_kinds(), "data": (Data,)}
    config = completed(config, sections)
    require_valid_config({name: config[name] for name in sections}, sections)
    with Checkpoints(run, read_only=True) as checkpoints:
        step, state = checkpoints.restore_arrays(step)
    with input_errors(str(run / CONFIG)):
        model = make_autoencoder(config["model"])
        expected = _shapes(jax.eval_shape(lambda: _init(model)))
    player = state["players"].get(PLAYER, {"params": {}, "model_state": {}})
    variables = {"params": player["params"], **player["model_state"], **state["ema"]}
    if _shapes(variables) != expected:
        raise InputError(
            f"{str(run)!r}: checkpoint {step} is of another model than its {CONFIG} describes. "
            "Put back a copy of the file."
        )
    return TrainedModel(model, variables, config, dataset, step)


def _init(model: VQVAE) -> Mapping[str, Any]:
    image = jnp.zeros((1, model.stride(), model.stride(), 3))
    variables: Mapping[str, Any] = model.init(jax.random.key(0), image)
    return variables


def _shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}
