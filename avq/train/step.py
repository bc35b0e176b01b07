"""One training step: a pure function of state and batch, run by `avq.parallel.compile_step`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

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
) -> tuple[TrainState, StepMetrics]:
    """Updates all players at once, each from the others' parameters before the step.

    Args:
        state: before the step.
        frozen: `Task.frozen`.
        batch: this device's part of the batch.
        task: what is trained. `task.optim.accumulate` micro-batches are gone through one after the
            other before anything is updated; row i is in micro-batch i modulo their number.
        optimizers: by player.

    Returns:
        The state after the step, and its metrics.
    """
    players, optim = state.players, task.optim
    gradients_of = partial(
        batch_gradients,
        task=task,
        params={name: parallel.device_varying(player.params) for name, player in players.items()},
        frozen=frozen,
        step=state.step,
    )
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    model_state: Mapping[str, Variables] = {
        name: player.model_state for name, player in players.items()
    }
    if optim.accumulate == 1:
        gradients = gradients_of(model_state, batch, key)
    else:
        gradients = accumulate_gradients(gradients_of, model_state, batch, key, optim.accumulate)

    params = {name: player.params for name, player in players.items()}
    model_state = task.update_codebooks(params, gradients.model_state, gradients.statistics)
    reduced = parallel.pmean(gradients.gradients)
    updated = {
        name: _update(player, reduced[name], model_state[name], optimizers[name])
        for name, player in players.items()
    }
    for name, start in task.starts.items():
        if start:
            updated[name] = _if_playing(state.step >= start, updated[name], players[name])
    players = updated
    norms = {f"gradient_norm/{name}": optax.tree.norm(reduced[name]) for name in players}
    metrics = StepMetrics(gradients.metrics | norms, gradients.counts)

    ema = _average(state, players[task.averaged], optim.ema_decay)
    after = replace(state, step=state.step + 1, players=players, ema=ema)
    if optim.skip_nonfinite:
        after = _if_finite(state, after, metrics)
        metrics.means["skipped"] = after.skipped
    return after, metrics


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
