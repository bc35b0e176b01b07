"""One training step: a pure function of state and batch; `avq.train.loop` compiles it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from avq import parallel
from avq.train.gradients import accumulate_gradients, batch_gradients
from avq.train.state import Player, TrainState, split_codebook
from avq.train.task import Batch, Params, Task, Variables
from avq.typing import Leaf


@flax.struct.dataclass
class StepMetrics:
    """Metrics of a step.

    Attributes:
        means: scalars, logged as means over an interval.
        counts: arrays, added up over an interval for `Task.interval`.
    """

    means: dict[str, Leaf]
    counts: dict[str, Any]


def train_step(
    state: TrainState,
    frozen: Mapping[str, Any],
    batch: Batch,
    *,
    task: Task,
    optimizers: Mapping[str, optax.GradientTransformation],
    mesh: Mesh,
) -> tuple[TrainState, StepMetrics]:
    """Updates all players at once, each from the others' parameters before the step.

    Args:
        state: before the step.
        frozen: `Task.frozen`.
        batch: the global batch. `task.optim.accumulate` micro-batches are gone through one after
            the other before anything is updated; row i is in micro-batch i modulo their number.
        task: what is trained.
        optimizers: by player.
        mesh: devices that share the batch.

    Returns:
        The state after the step, and its metrics.
    """
    fsdp, optim = task.parallel.fsdp, task.optim
    params = {name: player.params for name, player in state.players.items()}
    split = jax.tree.map(lambda a: parallel.state_sharding(a.shape, mesh, fsdp).spec, params)
    of_batch = parallel.map_batch(partial(_of_batch, task=task), mesh, split)
    gradients, (model_state, metrics, counts) = of_batch((state, frozen), batch)
    updated = {
        name: _update(player, gradients[name], model_state[name], optimizers[name])
        for name, player in state.players.items()
    }
    for name, start in task.starts.items():
        if start:
            updated[name] = _if_playing(state.step >= start, updated[name], state.players[name])
    norms = {f"gradient_norm/{name}": optax.tree.norm(gradients[name]) for name in updated}
    metrics = StepMetrics(metrics | norms, counts)

    ema = _average(state, updated[task.averaged], optim.ema_decay)
    after = replace(state, step=state.step + 1, players=updated, ema=ema)
    if optim.skip_nonfinite:
        after = _if_finite(state, after, metrics)
        metrics.means["skipped"] = after.skipped
    return parallel.placed(after, mesh, fsdp), parallel.placed(metrics, mesh, fsdp=False)


def _of_batch(
    whole: tuple[TrainState, Mapping[str, Any]], batch: Batch, *, task: Task
) -> tuple[dict[str, Params], tuple[Mapping[str, Variables], dict[str, Leaf], dict[str, Any]]]:
    """Gradients of a batch by player, and model state, metrics and counts after it.

    Args:
        whole: state before the step, and `Task.frozen`.
        batch: this device's part of it.
        task: what is trained.
    """
    state, frozen = whole
    params = {name: player.params for name, player in state.players.items()}
    gradients_of = partial(
        batch_gradients,
        task=task,
        params=parallel.device_varying(params),
        frozen=frozen,
        step=state.step,
    )
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    before: Mapping[str, Variables] = {
        name: player.model_state for name, player in state.players.items()
    }
    if task.optim.accumulate == 1:
        result = gradients_of(before, batch, key)
    else:
        result = accumulate_gradients(gradients_of, before, batch, key, task.optim.accumulate)
    model_state = task.update_codebooks(params, result.model_state, result.statistics)
    gradients = parallel.mean_gradients(result.gradients, task.parallel)
    return gradients, (model_state, result.metrics, result.counts)


def _if_finite(state: TrainState, after: TrainState, metrics: StepMetrics) -> TrainState:
    """`after` if every metric is finite, else `state` with one step more, and that one skipped."""
    finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.means.values()))))
    before = replace(state, step=state.step + 1, skipped=state.skipped + 1)
    chosen: TrainState = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
    return chosen


def _update(player: Player, gradients: Params, model_state: Variables, optimizer: Any) -> Player:
    updates, opt_state = optimizer.update(gradients, player.opt_state, player.params)
    return Player(optax.apply_updates(player.params, updates), dict(model_state), opt_state)


def _if_playing(plays: Leaf, after: Player, before: Player) -> Player:
    """`after` with parameters and optimiser of `before` until the player plays: an optimiser that
    counted updates of no gradient would no longer correct the bias of the first with one.
    """
    own = after.params, after.opt_state
    kept = before.params, before.opt_state
    params, opt_state = jax.tree.map(lambda new, old: jnp.where(plays, new, old), own, kept)
    return replace(after, params=params, opt_state=opt_state)


def _average(state: TrainState, player: Player, decay: float) -> dict[str, Any]:
    # The first steps average over what there is so far, so that the initial parameters do not
    # linger.
    keep = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    now, _ = split_codebook(player.variables())
    average: dict[str, Any] = jax.tree.map(
        lambda old, new: keep * old + (1 - keep) * new, state.ema, now
    )
    return average
