"""The training loop: a run from its start, or from its newest checkpoint, to its last step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from avq import cpu, parallel
from avq.checkpoint import CHECKPOINTS, Checkpoints, NotSaved
from avq.config import (
    CONFIG,
    DATASET,
    completed,
    free_on_resume,
    input_errors,
    read_config,
    require_same,
    require_valid_config,
    write_config,
)
from avq.errors import InputError
from avq.hosts import exit_if_gone, is_main_process
from avq.json_files import read_json, write_json
from avq.storage.runs import RunFolder, run_folder
from avq.train.guards import Guards
from avq.train.initial import Weights, read_weights, with_weights
from avq.train.interval import Diverged, Interval
from avq.train.optim import learning_rate, make_optimizer, make_schedules
from avq.train.profile import Profile
from avq.train.state import TrainState, init_state
from avq.train.step import train_step
from avq.train.stop import Stop
from avq.train.task import Batch, Task, TaskData
from avq.train.writers import Progress, Writer

Optimizers = dict[str, optax.GradientTransformation]


def train(
    task: Task, workdir: str, profile: int = 0, init_from: str = "", stop: Stop | None = None
) -> int:
    """Trains, or resumes, the run in a folder.

    Args:
        task: with the config of the run.
        workdir: the folder.
        profile: steps to trace into its folder `profile`, soon after the start; see `Profile`.
        init_from: a run or a released model whose weights a new run starts from, see
            `avq.train.initial.read_weights`.
        stop: of `stop_on_signal`; None catches no signals.

    Returns:
        0 when the last step is done, 128 + the signal's number when it was interrupted (the steps
        done are saved).

    Raises:
        InputError: for errors that the user can correct. Those of config and data are found before
            anything is written; after the first step, the steps done are saved.
        Diverged: when losses or gradients are no longer finite.
        NotSaved: when a checkpoint cannot be written.
        OSError: when another file cannot be written.
    """
    with run_folder(workdir) as place:
        return _train(task, place, profile, init_from, stop or Stop())


def _train(task: Task, place: RunFolder, profile: int, init_from: str, stop: Stop) -> int:
    run, name, checkpoint = place.folder, place.name, task.checkpoint
    _require_same_config(task, run)
    optimizers = optimizers_of(task)
    mesh = require_runnable(task, optimizers)
    weights = None
    if init_from and not _has_checkpoints(run):
        shapes = jax.eval_shape(partial(init_state, task, optimizers))
        weights = read_weights(init_from, task, shapes)
        _say(f"starting from the weights of {init_from} at step {weights.step}")
    _say(f"{name}: opening the data")
    task.folder = run
    data = task.open_data(read_json(run / DATASET))
    kept = checkpoint.keep, checkpoint.keep_best, task.best
    writes = is_main_process()
    with place.held() if writes else nullcontext(), Checkpoints(run, *kept) as checkpoints:
        state, start = _start(task, optimizers, mesh, checkpoints, weights)
        if writes:
            write_json(run / DATASET, dict(data.summary))
            write_config(run, task.config)
        if start >= task.train.steps:
            _say(f"{name}: all {start} steps are done. Raise --config.train.steps to train on.")
            return 0
        _say(f"{name}: {_description(task, data, mesh, state)}")
        loop = _Loop(task, place, optimizers, mesh, data, checkpoints)
        return loop.run(state, start, profile, stop)


def optimizers_of(task: Task) -> Optimizers:
    """The optimiser of each player."""
    return {
        name: make_optimizer(task.optims.get(name, task.optim), rate)
        for name, rate in schedules_of(task).items()
    }


def schedules_of(task: Task) -> dict[str, optax.Schedule]:
    """The schedule of each player's learning rate, by the number of its updates."""
    return make_schedules(task.optim, task.learning_rates, task.starts, task.train.steps)


def compile_step(task: Task, optimizers: Optimizers, mesh: Mesh) -> Any:
    """The compiled step of a task, `(state, frozen, batch) -> (state, metrics)`."""
    step = partial(train_step, task=task, optimizers=optimizers, mesh=mesh)
    return parallel.compile_step(step, task.dtype, task.parallel.deterministic)


def require_runnable(task: Task, optimizers: Optimizers) -> Mesh:
    """Refuses what cannot run before anything is written; returns the mesh.

    Raises:
        InputError: for a batch that devices and micro-batches do not divide, and for values that
            modules refuse.
    """
    with input_errors("parallel.devices"):
        mesh = parallel.make_mesh(task.parallel.devices)
    batch, parts = task.batch_size, task.optim.accumulate
    if batch < 1 or batch % mesh.size:
        raise InputError(
            f"data.batch_size={batch} cannot be split over {mesh.size} devices. "
            f"Use a multiple of {mesh.size}, or set parallel.devices."
        )
    if batch // mesh.size % parts:
        raise InputError(
            f"optim.accumulate={parts} does not divide the {batch // mesh.size} images that each "
            "of the devices gets of data.batch_size."
        )
    with input_errors("config"):
        jax.eval_shape(partial(init_state, task, optimizers))
    return mesh


def _require_same_config(task: Task, run: Path) -> None:
    saved = read_config(run)
    if saved is not None:
        saved = completed(saved, task.sections())
        require_valid_config(saved, task.sections())
        require_same(saved, task.config, free_on_resume(task.sections()), str(run))
    elif _has_checkpoints(run):
        raise InputError(f"{str(run)!r} has checkpoints but no {CONFIG}. Put back a copy of it.")


def _has_checkpoints(run: Path) -> bool:
    """Whether a folder holds whole checkpoints."""
    return any(path.name.isdecimal() for path in (run / CHECKPOINTS).glob("*"))


def _start(
    task: Task,
    optimizers: Optimizers,
    mesh: Mesh,
    checkpoints: Checkpoints,
    weights: Weights | None,
) -> tuple[TrainState, int]:
    init, fsdp = partial(init_state, task, optimizers), task.parallel.fsdp
    if not checkpoints.steps():
        state = parallel.init_placed(init, mesh, fsdp)
        return (with_weights(state, weights) if weights else state), 0
    start, state = checkpoints.restore_newest(parallel.shapes(init, mesh, fsdp))
    _say(f"resuming from step {start}")
    return state, start


def _description(task: Task, data: TaskData, mesh: Mesh, state: TrainState) -> str:
    """What is trained on what, for one line."""
    parameters = ", ".join(
        f"{name} {sum(leaf.size for leaf in jax.tree.leaves(player.params)):,}"
        for name, player in state.players.items()
    )
    devices = f"{mesh.size} x {mesh.devices.flat[0].device_kind}"
    if task.parallel.fsdp:
        whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        share = parallel.bytes_on_a_device(state) / 2**20
        devices += f", each with {share:.1f} of the {whole / 2**20:.1f} MiB of the state"
    about = [task.data_headline(data), f"parameters: {parameters}", f"devices: {devices}"]
    return "; ".join(part for part in about if part)


def _say(message: str) -> None:
    if is_main_process():
        print(message, flush=True)


class _Loop:
    """The loop of a run, and its reports."""

    def __init__(
        self,
        task: Task,
        place: RunFolder,
        optimizers: Optimizers,
        mesh: Mesh,
        data: TaskData,
        checkpoints: Checkpoints,
    ) -> None:
        self.task = task
        self.schedules = schedules_of(task)
        self.place, self.folder = place, place.folder
        self.mesh = mesh
        self.data = data
        self.checkpoints = checkpoints
        self.step = compile_step(task, optimizers, mesh)
        self.frozen = jax.device_put(dict(task.frozen()), parallel.replicated(mesh))
        self.evaluate = task.evaluator(data, mesh)
        self.guards = Guards(task.alarms())
        self.asked_to_stop = parallel.DelayedMax(mesh) if jax.process_count() > 1 else int

    def run(self, state: TrainState, start: int, profile: int, stop: Stop) -> int:
        """Trains from a state; returns the exit code."""
        self.batches = self.data.batches(start)
        self.writer = Writer(self.folder, start)
        self.progress = Progress(start, self.task.train.steps)
        self.profile = Profile(self.folder / "profile", start, profile)
        try:
            self.progress.say("compiling")
            stop.at_once = False
            if stopped := self._steps(state, start, stop):
                return 128 + stopped
            self.progress.say(f"done. {self.task.conclusion(self.place.name)}".rstrip())
            return 0
        except Diverged as error:
            self.checkpoints.wait()  # the newest may still be on its way
            raise Diverged(
                f"{error} The newest checkpoint is of step {self.checkpoints.latest()}. "
                "Lower optim.learning_rate, and train in another --workdir."
            ) from error
        except Exception as error:
            exit_if_gone(error)
            raise
        finally:
            self.batches.close()
            self.profile.close()
            self.progress.close()
            self.writer.close()

    def _steps(self, state: TrainState, start: int, stop: Stop) -> int:
        """Runs to the last step, or until a signal, whose number it returns."""
        interval = self._interval(start)
        batch = self._next(interval)
        step = cpu.compiled(self.step, state, self.frozen, batch, dtype=self.task.dtype)
        for done in range(start + 1, self.task.train.steps + 1):
            self.profile.before(done)
            state, metrics = step(state, self.frozen, batch)
            self.profile.after(done, metrics)
            interval.add(metrics)
            self.progress.advance()
            if done == start + 1:
                self._first_step_done(interval)
            with self._saved_on_failure(state, done, interval):
                if done < self.task.train.steps:  # is on its way while this step is computed
                    batch = self._next(interval)
                asked = self.asked_to_stop(stop.number)
                interval = self._report(state, done, interval, stopping=bool(asked))
            if asked:
                self.progress.say(f"stopped; saved step {done}. The same command continues.")
                return asked
        return 0

    def _first_step_done(self, interval: Interval) -> None:
        """Leaves compilation out of the speed."""
        interval.require_finite()
        self.progress.say(f"first step after {time.perf_counter() - interval.began:.0f} s")
        interval.restart()

    @contextmanager
    def _saved_on_failure(self, state: TrainState, done: int, interval: Interval) -> Iterator[None]:
        """Saves the state when what is inside fails, such as an evaluation for unreadable images:
        else every resume would repeat the steps since the last checkpoint, and fail again.
        """
        try:
            yield
        except (Diverged, NotSaved):
            raise
        except Exception:
            if jax.process_count() == 1:  # of several, the others would not come to save
                interval.require_finite()
                self.checkpoints.save(done, state, self.task.config)
            raise

    def _report(self, state: TrainState, done: int, interval: Interval, stopping: bool) -> Interval:
        """Logs, evaluates and saves when it is time to; returns the interval of the next step."""
        settings, last = self.task.train, done == self.task.train.steps
        periods = settings.log_every, settings.eval_every, self.task.checkpoint.every
        logs, evaluates, saves = (last or done % every == 0 for every in periods)
        self.checkpoints.require_saved()
        self.place.require_put()
        if logs or evaluates or saves or stopping:
            interval.require_finite()  # before anything is written of it
        if logs:
            self._log(state, done, interval)
            interval = self._interval(done)
        measure = None
        if evaluates:
            measure = self._evaluate(state, done)
            interval.restart()
        if saves or evaluates or stopping:
            self.checkpoints.save(done, state, self.task.config, measure)
        return interval

    def _interval(self, done: int) -> Interval:
        return Interval(done, self.task.optim.skip_nonfinite, self.task.interval)

    def _next(self, interval: Interval) -> Batch:
        with interval.waiting():
            rows = next(self.batches)
        batch: Batch = parallel.shard_batch(rows, self.mesh)
        return batch

    def _log(self, state: TrainState, done: int, interval: Interval) -> None:
        task = self.task
        values = interval.summary(task.batch_size)
        if not values:
            return
        for warning in self.guards.check(done, values):
            self.progress.say(f"warning: step {done}: {warning}")
        self.writer.scalars(done, values | self._learning_rates(state))
        speed = values.get("train/images_per_second")
        left = speed and (task.train.steps - done) * task.batch_size / speed
        self.progress.report(done, task.headline(values), values, left)

    def _learning_rates(self, state: TrainState) -> dict[str, float]:
        return {
            f"train/learning_rate/{name}": learning_rate(schedule, state.players[name].opt_state)
            for name, schedule in self.schedules.items()
        }

    def _evaluate(self, state: TrainState, done: int) -> float:
        """Evaluates the averaged player; returns the measure that ranks checkpoints."""
        averaged = state.averaged_variables(self.task.averaged)
        if self.task.parallel.fsdp:
            averaged = parallel.gathered(averaged, self.mesh)
        result = self.evaluate(averaged)
        measures = result.measures
        self.writer.scalars(done, {f"eval/{name}": value for name, value in measures.items()})
        self.writer.pictures(done, result.pictures)
        self.progress.say(f"eval at {done}: {self.task.evaluation_headline(measures)}")
        best: float = measures[self.task.best[0]]
        return best
