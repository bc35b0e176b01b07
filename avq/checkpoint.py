"""A run's checkpoints: `checkpoints/<step>/`, written by Orbax."""

import contextlib
import dataclasses
import logging
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from avq.abandoned_work import drop_reports_of_abandoned_work
from avq.errors import InputError
from avq.hosts import is_main_process
from avq.settings import MAX_INT32, setting
from avq.storage.copies import complete

CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
Best = tuple[str, Literal["max", "min"]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpointing:
    """Settings of checkpoints."""

    every: int = setting(2_000, "steps between checkpoints", low=1, high=MAX_INT32, free=True)
    keep: int = setting(3, "newest checkpoints to keep", low=1, high=MAX_INT32, free=True)
    keep_best: int = setting(
        1,
        "checkpoints to keep beside them, the best in evaluation",
        low=0,
        high=MAX_INT32,
        before=0,
        free=True,
    )


class NotSaved(Exception):
    """A checkpoint could not be written; the message names the cause and the newest one on disk."""


class Damaged(Exception):
    """A checkpoint whose arrays are not those that were written."""


class Checkpoints:
    """The checkpoints of one run, saved asynchronously; use as a context manager so that the last
    one is waited for.

    A checkpoint appears when it is whole, and carries a checksum of every array, compared when it
    is read.

    Args:
        run: its folder.
        keep: how many of the newest to keep.
        keep_best: how many of those with the best measure to keep beside them.
        best: the measure, and whether its maximum or its minimum is best.
        read_only: nothing is saved or cleaned up.
    """

    def __init__(
        self,
        run: Path,
        keep: int | None = None,
        keep_best: int = 0,
        best: Best = ("", "max"),
        read_only: bool = False,
    ) -> None:
        self._run, self._measure = run, best[0]
        sign = 1 if best[1] == "max" else -1

        def rank(measures: Mapping[str, float]) -> float:
            # Orbax ranks NaN above every number.
            value = sign * measures[best[0]]
            return value if math.isfinite(value) else -math.inf

        best_n = preservation.BestN(
            get_metric_fn=rank, n=keep_best, keep_checkpoints_without_metrics=False
        )
        newest = preservation.LatestN(keep)
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
            "checksums": ocp.JsonCheckpointHandler(),
        }
        folder = (run / CHECKPOINTS).resolve()
        with _silent_narrator():
            options = ocp.CheckpointManagerOptions(
                preservation_policy=preservation.AnyPreservationPolicy([newest, best_n]),
                best_fn=rank,  # without it, Orbax keeps no measures
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            )
            self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        try:
            self._manager.close()
        except Exception as error:
            if kind is None:  # else the first error is the one to report
                raise self._not_saved(error) from error

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Step of the newest checkpoint that is whole on disk, or None."""
        self._manager.reload()
        newest: int | None = self._manager.latest_step()
        return newest

    def best(self) -> int | None:
        """Step of the checkpoint that was best in evaluation, or None."""
        best: int | None = self._manager.best_step()
        return best

    def save(
        self, step: int, state: Any, config: Mapping[str, Any], measure: float | None = None
    ) -> None:
        """Begins to save; returns once the state may be donated. A saved step is left as it is.

        Args:
            step: that the state is of.
            state: a tree of arrays.
            config: of the run.
            measure: the measure that ranks checkpoints, where the state was evaluated.

        Raises:
            NotSaved: when this one, or the one before, could not be written, or when the run's
                folder has disappeared.
        """
        if step in self._manager.all_steps():
            return
        if not self._run.is_dir():  # Orbax would make another, without the run's other files
            raise NotSaved(
                f"the folder {str(self._run)!r} has disappeared. Put it back, and the same command "
                "continues from its newest checkpoint; without it, the command starts anew."
            )
        items = {
            "state": ocp.args.PyTreeSave(state),
            "config": ocp.args.JsonSave(dict(config)),
            "checksums": ocp.args.JsonSave(checksums(state)),
        }
        drop_reports_of_abandoned_work()
        measures = None if measure is None else {self._measure: measure}
        try:
            # Forced, or Orbax leaves a step out while it still writes the one before.
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=measures, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def require_saved(self) -> None:
        """Looks, without waiting, at the newest checkpoint begun.

        Raises:
            NotSaved: when it could not be written.
        """
        if not self._manager.is_saving_in_progress():
            self.wait()  # not at all: its thread has ended

    def wait(self) -> None:
        """Waits until every checkpoint begun is whole on disk.

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
            f"mended, the same command continues from step {kept or 0}, the newest that is saved."
        )

    def restore_newest(self, target: Any) -> tuple[int, Any]:
        """Step and state of the newest checkpoint that can be read. A damaged one is moved to
        `damaged/`, with a warning, and the one before it taken.

        Args:
            target: the state as `jax.ShapeDtypeStruct`s, with structure, types and shardings.

        Raises:
            InputError: when there is none that can be read.
        """
        newest, state = self._newest(lambda step: self._restore_as(step, target))
        for step in self.steps():
            if step > newest:
                self._move_away(step)
        return newest, state

    def _restore_as(self, step: int, target: Any) -> Any:
        names = set(self._manager.item_metadata(step)["state"].tree)
        if not _has_players_beside_step(names):
            return self._restore(step, target, ocp.checkpoint_utils.construct_restore_args(target))
        parts = {f.name: getattr(target, f.name) for f in dataclasses.fields(target)}
        item = dict.fromkeys(names) | parts.pop("players") | parts
        restored = self._restore(step, item, ocp.checkpoint_utils.construct_restore_args(item))
        return type(target)(**_with_players(restored))

    def _newest(
        self, restore: Callable[[int], Any], steps: list[int] | None = None
    ) -> tuple[int, Any]:
        drop_reports_of_abandoned_work()
        damage = {}
        for step in reversed(self.steps() if steps is None else steps):
            complete(self._run, step)  # what fails here is no damage
            try:
                restored = restore(step)
            except Exception as error:  # whatever Orbax, or the storage below it, raises
                damage[step] = _one_line(error)
                continue
            for passed, reason in damage.items():
                log.warning("checkpoint %d is damaged, %d is taken. %s", passed, step, reason)
            return step, restored
        if not damage:
            raise InputError(f"{str(self._run)!r} has no checkpoint yet. Train it further.")
        passed, reason = next(iter(damage.items()))
        raise InputError(
            f"no checkpoint of {str(self._run)!r} can be read; number {passed}: {reason} "
            "Put back a copy, or train in another --workdir."
        )

    def _move_away(self, step: int) -> None:
        if is_main_process():
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
        state = self._restore(step, tree, as_numpy)
        return _with_players(state) if _has_players_beside_step(state) else state

    def _restore(self, step: int, item: Any, restore_args: Any) -> Any:
        state = ocp.args.PyTreeRestore(item=item, restore_args=restore_args)
        args = ocp.args.Composite(state=state, checksums=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=args)
        sums = checksums(restored["state"])
        wrong = [name for name, sum_ in restored["checksums"].items() if sums.get(name) != sum_]
        if wrong or len(sums) != len(restored["checksums"]):
            raise Damaged(f"{', '.join(wrong[:3]) or 'its list of arrays'} is not what was saved")
        return restored["state"]


# Checkpoints of runs of format 1 hold every player beside the step, and None for an absent one.
_BESIDE_PLAYERS = {"step", "ema", "rng", "skipped"}


def _has_players_beside_step(names: Iterable[str]) -> bool:
    return set(names) >= _BESIDE_PLAYERS and "players" not in names


def _with_players(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint of format 1 in the layout of today."""
    players = {
        name: player
        for name, player in state.items()
        if name not in _BESIDE_PLAYERS
        and (isinstance(player, Mapping) or dataclasses.is_dataclass(player))
    }
    others = {name: part for name, part in state.items() if name in _BESIDE_PLAYERS}
    return {**others, "players": players}


def checksums(state: Any) -> dict[str, int]:
    """CRC-32 of the bytes of every array of a tree, by its path. All processes that have a part of
    one call it.
    """
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(jax.tree.map(_whole, state)))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(np.asarray(leaf).data)
        for path, leaf in leaves
    }


def _whole(leaf: Any) -> Any:
    """An array that can be read here, wherever its parts are."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_replicated or leaf.is_fully_addressable):
        return multihost_utils.process_allgather(leaf, tiled=True)
    return leaf


@contextlib.contextmanager
def _silent_narrator() -> Iterator[None]:
    """Keeps Orbax from warning of options that are meant, such as a folder that is only read."""
    narrator = logging.getLogger("absl")
    level = narrator.level
    narrator.setLevel(logging.ERROR)
    try:
        yield
    finally:
        narrator.setLevel(level)


def _one_line(error: Exception) -> str:
    """The operating system's message if the error carries one, else its first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + "."
    text = str(error) or "no reason given"
    if system := re.search(r"([^:]+) \[os_error_code", text):
        return system[1].strip() + "."
    return f"{type(error).__name__}: {text.splitlines()[0][:150]}".rstrip(" .:") + "."
