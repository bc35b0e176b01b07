"""How a run lies on disk: `config.json`, `dataset.json`, and `checkpoints/<step>/` written by
Orbax.
"""

import logging
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from avq.config import module_fields
from avq.errors import InputError
from avq.hosts import first
from avq.json_files import read_json
from avq.models.vqvae import VQVAE

CONFIG, DATASET, CHECKPOINTS, DAMAGED = "config.json", "dataset.json", "checkpoints", "damaged"
log = logging.getLogger(__name__)


class NotSaved(Exception):
    """A checkpoint could not be written; the message says why, and what is left."""


class Damaged(Exception):
    """A checkpoint that does not read back as it was written."""


class Checkpoints:
    """The checkpoints of one run, saved asynchronously; use as a context manager so that the last
    one is waited for.

    A checkpoint appears when it is whole, and carries a checksum of every array, compared when it
    is read.

    Args:
        run: its folder.
        keep: how many of the newest to keep.
        keep_best: how many of those with the highest PSNR to keep beside them.
        read_only: nothing is saved or cleaned up.
    """

    def __init__(
        self, run: Path, keep: int | None = None, keep_best: int = 0, read_only: bool = False
    ) -> None:
        self._run = run
        best = preservation.BestN(
            get_metric_fn=_psnr, n=keep_best, keep_checkpoints_without_metrics=False
        )
        newest = preservation.LatestN(keep)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy([newest, best]),
            best_fn=_psnr,  # without it, Orbax keeps no measures
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
            "checksums": ocp.JsonCheckpointHandler(),
        }
        folder = (run / CHECKPOINTS).resolve()
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            self._manager.close()
        except Exception as error:
            if kind is None:  # else the first error is the one to tell
                raise self._not_saved(error) from error

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Step of the newest checkpoint that is whole on disk, or None."""
        self._manager.reload()
        return self._manager.latest_step()

    def save(
        self, step: int, state: Any, config: dict[str, Any], psnr: float | None = None
    ) -> None:
        """Begins to save; returns once the state may be donated. A saved step is left as it is.

        Args:
            step: that the state is of.
            state: a tree of arrays.
            config: of the run.
            psnr: where the state was evaluated.

        Raises:
            NotSaved: when this one, or the one before, could not be written.
        """
        if step in self._manager.all_steps():
            return
        items = {
            "state": ocp.args.PyTreeSave(state),
            "config": ocp.args.JsonSave(config),
            "checksums": ocp.args.JsonSave(checksums(state)),
        }
        measures = None if psnr is None else {"psnr": psnr}
        try:
            # Forced, or Orbax leaves a step out while it still writes the one before.
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=measures, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Waits until what was begun to be saved is whole on disk.

        Raises:
            NotSaved: when it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_saved(error) from error

    def _not_saved(self, error: Exception) -> NotSaved:
        kept = self.latest()
        return NotSaved(
            f"could not save to {str(self._run / CHECKPOINTS)!r}: {_one_line(error)} When that is "
            f"mended, the same command goes on from step {kept or 0}, the newest that is saved."
        )

    def restore_newest(self, target: Any) -> tuple[int, Any]:
        """Step and state of the newest checkpoint. One that is damaged is moved out of the way, to
        `damaged/`, with a warning, and the one before it taken.

        Args:
            target: a tree of `jax.ShapeDtypeStruct` that says structure, types and shardings.

        Raises:
            InputError: when there is none that can be read.
        """
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        found = self._newest(lambda step: self._restore(step, target, restore_args))
        for step in self.steps():
            if step > found[0]:
                self._move_away(step)
        return found

    def _newest(
        self, restore: Callable[[int], Any], steps: list[int] | None = None
    ) -> tuple[int, Any]:
        damage = {}
        for step in reversed(self.steps() if steps is None else steps):
            try:
                found = step, restore(step)
            except Exception as error:  # whatever Orbax, or the storage below it, stumbles over
                damage[step] = _one_line(error)
                continue
            for passed, reason in damage.items():
                log.warning("checkpoint %d is damaged, %d is taken. %s", passed, step, reason)
            return found
        if not damage:
            raise InputError(f"{str(self._run)!r} has no checkpoint yet. Train it further.")
        passed, reason = next(iter(damage.items()))
        raise InputError(
            f"no checkpoint of {str(self._run)!r} can be read; number {passed}: {reason} "
            "Put back a copy, or train in another --workdir."
        )

    def _move_away(self, step: int) -> None:
        if first():
            (self._run / DAMAGED).mkdir(exist_ok=True)
            target, n = self._run / DAMAGED / str(step), 1
            while target.exists():
                target, n = self._run / DAMAGED / f"{step}.{n}", n + 1
            os.rename(self._run / CHECKPOINTS / str(step), target)
        self._manager.reload()

    def restore_arrays(self, step: int | None = None) -> tuple[int, Any]:
        """Step and state, as nested dicts of numpy arrays wherever it was saved; of the newest
        checkpoint that can be read, or of the given step.

        Raises:
            InputError: when there is none.
        """
        if step is not None and step not in self.steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise InputError(
                f"{str(self._run)!r} has no checkpoint of step {step}. There are: {there}."
            )
        return self._newest(self._restore_arrays, None if step is None else [step])

    def _restore_arrays(self, step: int) -> Any:
        tree = self._manager.item_metadata(step)["state"].tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return self._restore(step, tree, as_numpy)

    def _restore(self, step: int, item: Any, restore_args: Any) -> Any:
        state = ocp.args.PyTreeRestore(item=item, restore_args=restore_args)
        args = ocp.args.Composite(state=state, checksums=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=args)
        found = checksums(restored["state"])
        wrong = [name for name, sum_ in restored["checksums"].items() if found.get(name) != sum_]
        if wrong or len(found) != len(restored["checksums"]):
            raise Damaged(f"{', '.join(wrong[:3]) or 'its list of arrays'} is not what was saved")
        return restored["state"]


def _psnr(measures: dict[str, float]) -> float:
    return measures["psnr"]


def checksums(state: Any) -> dict[str, int]:
    """CRC-32 of the bytes of every array of a tree, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(state))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(np.asarray(leaf).data)
        for path, leaf in leaves
    }


def _one_line(error: Exception) -> str:
    """The system's own words where there are some in what the storage reports, else its start."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + "."
    text = str(error) or "no reason given"
    if system := re.search(r"([^:]+) \[os_error_code", text):
        return system[1].strip() + "."
    return f"{type(error).__name__}: {text.splitlines()[0][:150]}".rstrip(" .:") + "."


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
    """Restores the averaged generator of a run from its newest checkpoint that can be read, or that
    of `step`.

    Raises:
        InputError: when the folder holds no run, or no such checkpoint.
    """
    run = Path(run)
    config, dataset = read_json(run / CONFIG), read_json(run / DATASET)
    if config is None or dataset is None:
        missing = CONFIG if config is None else DATASET
        raise InputError(
            f"{str(run)!r} is not a run: no {missing} in it. Give the --workdir of a training run."
        )
    with Checkpoints(run, read_only=True) as checkpoints:
        step, state = checkpoints.restore_arrays(step)
    variables = {
        "params": state["vqvae"]["params"],
        **state["vqvae"]["model_state"],
        **state["ema"],
    }
    return TrainedModel(VQVAE(**module_fields(config["model"])), variables, config, dataset, step)
