"""A run from start, or from where it stopped, to its last step."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from avq import losses, parallel
from avq.checkpoint import CHECKPOINTS, CONFIG, DATASET, Checkpoints
from avq.config import refused_values, require_same
from avq.data.dataset import Dataset, open_dataset
from avq.data.pipeline import prefetch, train_batches
from avq.errors import InputError
from avq.evaluate.evaluation import Evaluator, samples
from avq.hosts import first
from avq.json_files import read_json, write_json
from avq.lock import locked
from avq.train.guards import Guards
from avq.train.interval import Diverged, Interval
from avq.train.profile import Profile
from avq.train.state import TrainState
from avq.train.stop import Stop, stop_on_signal
from avq.train.system import System, build, make_step
from avq.train.writers import Progress, Writer


def check(config: Any, system: System) -> Mesh:
    """Refuses what cannot run before anything is written; returns the mesh.

    Raises:
        InputError: for an image side that the model's stride, or a batch that devices and
            micro-batches do not divide, and for values that modules refuse.
    """
    size, stride = config.data.image_size, system.vqvae.stride()
    if size % stride or size < stride:
        raise InputError(
            f"data.image_size={size} is not a multiple of the model's stride {stride}. "
            f"Use {max(stride, size // stride * stride)} or {(size // stride + 1) * stride}."
        )
    with refused_values("parallel.devices"):
        mesh = parallel.make_mesh(config.parallel.devices)
    batch, parts = config.data.batch_size, config.optim.accumulate
    if batch < 1 or batch % mesh.size:
        raise InputError(
            f"data.batch_size={batch} cannot be split over {mesh.size} devices. "
            f"Use a multiple of {mesh.size}, or set parallel.devices."
        )
    if parts < 1 or batch // mesh.size % parts:
        raise InputError(
            f"optim.accumulate={parts} does not divide the {batch // mesh.size} images that each "
            "of the devices gets of data.batch_size."
        )
    with refused_values("config"):
        state = jax.eval_shape(partial(system.init, config.seed, size))
        if state.discriminator is not None:
            losses.generator_loss(fake_logits=jnp.ones((1, 1, 1, 1)), kind=config.loss.adversarial)
    return mesh


def train(config: Any, workdir: str, profile: int = 0) -> int:
    """Trains, or goes on training, the run in a folder.

    Args:
        config: of the run.
        workdir: its folder.
        profile: steps to trace into its folder `profile`, soon after the start; see `Profile`.

    Returns:
        0 when the last step is done, 128 + the signal's number when it was interrupted (what was
        done is saved).

    Raises:
        InputError: for what the user can put right; nothing has been written then.
        Diverged: when losses or gradients are no longer finite.
        NotSaved: when a checkpoint cannot be written.
        OSError: when another file cannot be written.
    """
    run = Path(workdir)
    saved = read_json(run / CONFIG)
    if saved is not None:
        require_same(saved, config.to_dict(), workdir)
    elif (run / CHECKPOINTS).is_dir() and any((run / CHECKPOINTS).iterdir()):
        raise InputError(f"{workdir!r} has checkpoints but no {CONFIG}. Put back a copy of it.")
    with refused_values("config"):
        system = build(config)
    mesh = check(config, system)
    dataset = open_dataset(config.data, read_json(run / DATASET))
    keep = config.checkpoint.keep, config.checkpoint.keep_best
    with locked(run) if first() else nullcontext(), Checkpoints(run, *keep) as checkpoints:
        state, start = _start(system, config, mesh, checkpoints)
        if first():
            write_json(run / DATASET, dataset.summary.to_json())
            write_json(run / CONFIG, config.to_dict())
        if start >= config.train.steps:
            _say(f"{workdir}: all {start} steps are done. Raise --config.train.steps to go on.")
            return 0
        return _Run(config, run, system, mesh, dataset, checkpoints).go(state, start, profile)


def _start(
    system: System, config: Any, mesh: Mesh, checkpoints: Checkpoints
) -> tuple[TrainState, int]:
    init = partial(system.init, config.seed, config.data.image_size)
    if not checkpoints.steps():
        return parallel.everywhere(init, mesh), 0
    sharding = parallel.replicated(mesh)
    target = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), jax.eval_shape(init)
    )
    start, state = checkpoints.restore_newest(target)
    _say(f"resuming from step {start}")
    return state, start


def _say(message: str) -> None:
    if first():
        print(message, flush=True)


class _Run:
    """The loop and what it reports to."""

    def __init__(
        self,
        config: Any,
        run: Path,
        system: System,
        mesh: Mesh,
        dataset: Dataset,
        checkpoints: Checkpoints,
    ) -> None:
        self.config = config
        self.run = run
        self.mesh = mesh
        self.dataset = dataset
        self.checkpoints = checkpoints
        step = make_step(system, config, dataset.summary.pixel_variance)
        self.step = parallel.compile_step(step, mesh)
        self.evaluator = Evaluator(system.vqvae, mesh)
        self.samples = samples(dataset.test, config.data.image_size)
        playing = system.discriminator is not None
        self.guards = Guards(config.loss.adversarial_start if playing else None)
        self.asked_to_stop = parallel.Largest(mesh) if jax.process_count() > 1 else int

    def go(self, state: TrainState, start: int, profile: int) -> int:
        config, steps = self.config, self.config.train.steps
        host, hosts = jax.process_index(), jax.process_count()
        batches = train_batches(
            self.dataset.train, config.data, seed=config.seed, host=host, hosts=hosts
        )
        stream = prefetch(batches, start, config.data.workers)
        self.writer = Writer(self.run, start)
        self.progress = Progress(start, steps)
        self.profile = Profile(self.run / "profile", start, profile)
        try:
            with stop_on_signal() as stop:
                stopped = self._steps(state, start, stream, stop)
            return 128 + stopped if stopped else 0
        except Diverged as error:
            self.checkpoints.wait()  # the newest may still be on its way
            raise Diverged(
                f"{error} The newest checkpoint is of step {self.checkpoints.latest()}. "
                "Lower optim.learning_rate, and train in another --workdir."
            ) from error
        finally:
            stream.close()  # type: ignore[attr-defined]
            self.profile.close()
            self.progress.close()
            self.writer.close()

    def _steps(self, state: TrainState, start: int, stream: Iterator[Any], stop: Stop) -> int:
        """Runs to the last step, or until a signal, whose number it returns."""
        config, steps = self.config, self.config.train.steps
        periods = config.train.log_every, config.train.eval_every, config.checkpoint.every
        interval = Interval(start, config.optim.skip_nonfinite)
        batch = self._next(stream, interval)
        for done in range(start + 1, steps + 1):
            self.profile.before(done)
            state, metrics = self.step(state, batch)
            self.profile.after(done, metrics)
            last = done == steps
            if not last:  # the next one is on its way while this step is computed
                batch = self._next(stream, interval)
            interval.add(metrics)
            self.progress.advance()
            asked = self.asked_to_stop(stop.number)
            logs, evaluates, saves = (last or done % every == 0 for every in periods)
            if logs or evaluates or saves or asked:
                interval.require_finite()  # before anything is written of it
            if logs:
                self._log(interval, done, config.data.batch_size)
                interval = Interval(done, config.optim.skip_nonfinite)
            psnr = None
            if evaluates:
                psnr = self._evaluate(state, done)
                interval.restart()
            if saves or evaluates or asked:
                self.checkpoints.save(done, state, config.to_dict(), psnr)
            if asked:
                self.progress.say(
                    f"stopped; saved step {done}. The same command goes on from there."
                )
                return asked
        return 0

    def _next(self, stream: Iterator[Any], interval: Interval) -> Any:
        with interval.waiting():
            images = next(stream)
        return parallel.place(images, self.mesh)

    def _log(self, interval: Interval, done: int, batch_size: int) -> None:
        values = interval.summary(done, batch_size)
        if not values:
            return
        for warning in self.guards.look(done, values):
            self.progress.say(f"warning: step {done}: {warning}")
        self.writer.scalars(done, values)
        left = (self.config.train.steps - done) * batch_size / values["train/images_per_second"]
        self.progress.report(done, values, left)

    def _evaluate(self, state: TrainState, done: int) -> float:
        variables = state.ema_variables()
        measures = self.evaluator.evaluate(
            variables, self.dataset.test, self.dataset.summary, self.config.data.batch_size
        )
        self.writer.scalars(done, {f"eval/{name}": value for name, value in measures.items()})
        self.writer.image(done, self.evaluator.grid(variables, self.samples))
        usage = "/".join(f"{share:.0%}" for share in measures["usage"])
        self.progress.say(
            f"eval at {done}: psnr {measures['psnr']:.2f} dB  ssim {measures['ssim']:.3f}  "
            f"mae/std {measures['mae_over_std']:.4f}  usage {usage}"
        )
        return measures["psnr"]
