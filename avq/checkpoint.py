"""How a run lies on disk: `config.json`, `dataset.json`, and `checkpoints/<step>/` written by
Orbax.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from avq.config import module_fields
from avq.errors import InputError
from avq.json_files import read_json
from avq.models.vqvae import VQVAE

CONFIG, DATASET, CHECKPOINTS = "config.json", "dataset.json", "checkpoints"


class Checkpoints:
    """The checkpoints of one run, saved asynchronously; use as a context manager so that the last
    one is waited for.
    """

    def __init__(self, run: Path, keep: int | None = None, read_only: bool = False) -> None:
        folder = (run / CHECKPOINTS).resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, read_only=read_only)
        handlers = {"state": ocp.PyTreeCheckpointHandler(), "config": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Begins to save; returns once the state may be donated. A saved step is left as it is."""
        if step not in self._manager.all_steps():
            items = {"state": ocp.args.PyTreeSave(state), "config": ocp.args.JsonSave(config)}
            self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, step: int, target: Any) -> Any:
        """The state at a step, with the structure, types and shardings of `target`, a tree of
        `jax.ShapeDtypeStruct`.
        """
        return self._restore(step, target, ocp.checkpoint_utils.construct_restore_args(target))

    def restore_arrays(self, step: int) -> Any:
        """The state at a step as nested dicts of numpy arrays, wherever it was saved."""
        tree = self._manager.item_metadata(step)["state"].tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return self._restore(step, tree, as_numpy)

    def _restore(self, step: int, item: Any, restore_args: Any) -> Any:
        state = ocp.args.PyTreeRestore(item=item, restore_args=restore_args)
        return self._manager.restore(step, args=ocp.args.Composite(state=state))["state"]


@dataclass
class TrainedModel:
    """What a run is for those who only use it.

    Attributes:
        model: the module.
        variables: averaged parameters and batch statistics, codebooks.
        config: the run's.
        dataset: the content of `dataset.json`.
        step: of the checkpoint.
    """

    model: VQVAE
    variables: dict[str, Any]
    config: dict[str, Any]
    dataset: dict[str, Any]
    step: int


def load_model(run: str | Path, step: int | None = None) -> TrainedModel:
    """Restores the averaged generator of a run from its newest checkpoint, or that of `step`.

    Raises:
        InputError: when the folder holds no run, or no such checkpoint.
    """
    run = Path(run)
    config = read_json(run / CONFIG)
    if config is None:
        raise InputError(
            f"{str(run)!r} is not a run: no {CONFIG} in it. Give the --workdir of a training run."
        )
    with Checkpoints(run, read_only=True) as checkpoints:
        chosen = checkpoints.latest() if step is None else step
        if chosen is None or not (run / CHECKPOINTS / str(chosen)).is_dir():
            which = "" if step is None else f" of step {step}"
            raise InputError(f"{str(run)!r} has no checkpoint{which} yet. Train it further.")
        state = checkpoints.restore_arrays(chosen)
    variables = {
        "params": state["vqvae"]["params"],
        **state["vqvae"]["model_state"],
        **state["ema"],
    }
    model = VQVAE(**module_fields(config["model"]))
    return TrainedModel(model, variables, config, read_json(run / DATASET), chosen)
