"""One training step of both players: a pure function of state and batch."""

from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, UInt8

from avq.models.quantizer import perplexity
from avq.train.contribution import contribute, contribute_in_turns, each_devices, mean_over
from avq.train.objective import Metrics, Objective
from avq.train.state import Player, TrainState, split_codebook


def train_step(
    state: TrainState,
    images: UInt8[Array, "b h w 3"],
    *,
    vqvae: nn.Module,
    discriminator: nn.Module | None,
    optimizers: dict[str, optax.GradientTransformation],
    objective: Objective,
    accumulate: int = 1,
    axis_name: str | None = None,
    sync_batch_norm: bool = True,
) -> tuple[TrainState, Metrics]:
    """Updates both players at once, each from the other's parameters before the step.

    Args:
        state: before the step.
        images: this device's part of the batch, 0..255.
        vqvae, discriminator: modules; `discriminator` None trains the first alone.
        optimizers: by player, 'vqvae' and 'discriminator'.
        objective: weights of the losses.
        accumulate: micro-batches that the batch is gone through in, one after the other, before
            anything is updated; divides b. Image i is in micro-batch i modulo their number.
        axis_name: mapped axis that the batch is split over; None for a single device.
        sync_batch_norm: whether the modules take batch statistics over that axis; if not, the
            running ones become the mean of all devices'.

    Returns:
        The state after the step, and metrics: scalars, one value a level of `perplexity`, and the
        `code_counts` `[levels, k]` of the global batch.
    """
    players = {"vqvae": state.vqvae}
    if state.discriminator is not None:
        players["discriminator"] = state.discriminator
    contribute_part = partial(
        contribute,
        # As parameters of each device, so that gradients are summed over the devices once.
        {name: each_devices(player.params, axis_name) for name, player in players.items()},
        {name: split_codebook(player.model_state)[0] for name, player in players.items()},
        started=(state.step >= objective.adversarial_start).astype(jnp.float32),
        vqvae=vqvae,
        discriminator=discriminator,
        objective=objective,
        axis_name=axis_name,
        sync_batch_norm=sync_batch_norm,
    )
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    _, codebook = split_codebook(state.vqvae.model_state)
    if accumulate == 1:
        codebook, found = contribute_part(codebook, images, key)
    else:
        codebook, found = contribute_in_turns(
            contribute_part, codebook, images, key, accumulate, axis_name
        )

    _, learned = vqvae.apply(
        {"params": state.vqvae.params, **codebook},
        found.statistics,
        method="learn",
        mutable=["codebook"],
    )
    gradients = mean_over(found.gradients, axis_name)
    metrics = found.metrics
    for name, player in players.items():
        model_state = found.model_state[name] | (learned if name == "vqvae" else {})
        players[name] = _update(player, gradients[name], model_state, optimizers[name])
        prefix = "" if name == "vqvae" else f"{name}_"
        metrics[f"{prefix}gradient_norm"] = optax.tree.norm(gradients[name])
    metrics["code_counts"] = jnp.stack([level.counts for level in found.statistics])
    metrics["perplexity"] = jax.vmap(perplexity)(metrics["code_counts"])

    generator = players["vqvae"]
    ema = _average(state, generator, objective.ema_decay)
    after = TrainState(
        state.step + 1, generator, players.get("discriminator"), ema, state.rng, state.skipped
    )
    if objective.skip_nonfinite:
        after = _if_finite(state, after, metrics)
        metrics["skipped"] = after.skipped
    return after, metrics


def _if_finite(state: TrainState, after: TrainState, metrics: Metrics) -> TrainState:
    """`after` if every scalar is finite, else `state` with one step more, and that one skipped."""
    finite = jnp.all(jnp.isfinite(jnp.stack([v for v in metrics.values() if v.ndim == 0])))
    before = replace(state, step=state.step + 1, skipped=state.skipped + 1)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)


def _update(player: Player, gradients: Any, model_state: dict[str, Any], optimizer: Any) -> Player:
    updates, opt_state = optimizer.update(gradients, player.opt_state, player.params)
    return Player(optax.apply_updates(player.params, updates), model_state, opt_state)


def _average(state: TrainState, generator: Player, decay: float) -> dict[str, Any]:
    # The first steps average over what there is so far, so that the initial parameters do not
    # linger.
    keep = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    now, _ = split_codebook(generator.variables())
    return jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.ema, now)
