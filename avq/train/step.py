"""One training step of both players: a pure function of state and batch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, UInt8

from avq import losses
from avq.models.quantizer import perplexity
from avq.pixels import to_float
from avq.train.state import Player, TrainState, split_codebook

Metrics = dict[str, Float[Array, "..."]]


@flax.struct.dataclass
class Objective:
    """The numbers of the loss; docs/PAPER.md says where each comes from.

    Attributes:
        pixel_variance: sigma, the variance of the training pixels in [-1, 1], by which the absolute
            error is divided.
        adversarial: kind of loss, see `avq.losses`.
        adversarial_weight: lambda.
        adversarial_start: step from which the players play against each other.
        ema_decay: of the averaged generator.
        skip_nonfinite: whether a step whose losses or gradients are not finite leaves all but the
            counts of steps as it was.
    """

    pixel_variance: float = flax.struct.field(pytree_node=False)
    adversarial: losses.Adversarial = flax.struct.field(pytree_node=False)
    adversarial_weight: float = flax.struct.field(pytree_node=False)
    adversarial_start: int = flax.struct.field(pytree_node=False)
    ema_decay: float = flax.struct.field(pytree_node=False)
    skip_nonfinite: bool = flax.struct.field(pytree_node=False, default=False)


@flax.struct.dataclass
class Contribution:
    """What a batch, or a micro-batch, adds to a step: of all devices, but for the gradients.

    Attributes:
        gradients: by player, 'vqvae' and 'discriminator'; of this device's images.
        model_state: by player after it, but for the codebook.
        metrics: scalars.
        statistics: of the codebooks, finest level first.
    """

    gradients: dict[str, Any]
    model_state: dict[str, Any]
    metrics: dict[str, Any]
    statistics: list[Any]


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
    contribution = partial(
        _contribution,
        # As parameters of each device, so that gradients are summed over the devices once.
        {name: _each_devices(player.params, axis_name) for name, player in players.items()},
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
        codebook, found = contribution(codebook, images, key)
    else:
        codebook, found = _accumulated(contribution, codebook, images, key, accumulate, axis_name)

    _, learned = vqvae.apply(
        {"params": state.vqvae.params, **codebook},
        found.statistics,
        method="learn",
        mutable=["codebook"],
    )
    gradients = _mean(found.gradients, axis_name)
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
        finite = jnp.all(jnp.isfinite(jnp.stack([v for v in metrics.values() if v.ndim == 0])))
        before = replace(state, step=state.step + 1, skipped=state.skipped + 1)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
        metrics["skipped"] = after.skipped
    return after, metrics


def _contribution(
    params: dict[str, Any],
    model_state: dict[str, Any],
    codebook: dict[str, Any],
    images: UInt8[Array, "b h w 3"],
    key: Array,
    *,
    started: Array,
    vqvae: nn.Module,
    discriminator: nn.Module | None,
    objective: Objective,
    axis_name: str | None,
    sync_batch_norm: bool,
) -> tuple[dict[str, Any], Contribution]:
    """The codebook, filled if it was empty, and what the images contribute; parameters and
    other variables by player.
    """
    targets = to_float(images)

    def judge(params: Any, own_state: Any, x: Array) -> tuple[Array, Any]:
        assert discriminator is not None
        variables = {"params": params, **own_state}
        logits, mutated = discriminator.apply(variables, x, train=True, mutable=["batch_stats"])
        return logits, dict(mutated)

    def generator_objective(own: Any) -> tuple[Array, Any]:
        out, mutated = vqvae.apply(
            {"params": own, **model_state["vqvae"], **codebook},
            targets,
            train=True,
            mutable=["batch_stats", "codebook"],
            rngs={"codebook": key},
        )
        mae = losses.mean_absolute_error(images=out.images, targets=targets)
        quantization = sum(level.loss for level in out.levels)
        terms = {"mae": mae, "quantization": quantization}
        total = mae / objective.pixel_variance + quantization
        if discriminator is not None:
            fake, _ = judge(params["discriminator"], model_state["discriminator"], out.images)
            terms["adversarial"] = losses.generator_loss(
                fake_logits=fake, kind=objective.adversarial
            )
            total += started * objective.adversarial_weight * terms["adversarial"]
        return total, (terms | {"loss": total}, dict(mutated), out)

    def discriminator_objective(own: Any, fake_images: Array) -> tuple[Array, Any]:
        real, mutated = judge(own, model_state["discriminator"], targets)
        fake, mutated = judge(own, mutated, fake_images)
        loss = losses.discriminator_loss(
            real_logits=real, fake_logits=fake, kind=objective.adversarial
        )
        terms = {"real_logit": jnp.mean(real), "fake_logit": jnp.mean(fake)}
        return started * loss, (terms | {"discriminator_loss": loss}, mutated)

    gradients, (metrics, mutated, out) = jax.grad(generator_objective, has_aux=True)(
        params["vqvae"]
    )
    own_state, filled = split_codebook(mutated)
    found = Contribution(
        {"vqvae": gradients},
        {"vqvae": own_state},
        metrics,
        [level.statistics for level in out.levels],
    )
    if discriminator is not None:
        gradients, (metrics, after) = jax.grad(discriminator_objective, has_aux=True)(
            params["discriminator"], lax.stop_gradient(out.images)
        )
        found.gradients["discriminator"] = gradients
        found.model_state["discriminator"] = after
        found.metrics.update(metrics)
    if not sync_batch_norm:
        found = replace(found, model_state=_mean(found.model_state, axis_name))
    return filled, replace(found, metrics=_mean(found.metrics, axis_name))


def _accumulated(
    contribution: Callable[..., tuple[dict[str, Any], Contribution]],
    codebook: dict[str, Any],
    images: UInt8[Array, "b h w 3"],
    key: Array,
    count: int,
    axis_name: str | None,
) -> tuple[dict[str, Any], Contribution]:
    """As `contribution`, in `count` micro-batches, of which the first fills an empty codebook."""
    # Every count-th image, so that a part holds the same ones on any number of devices.
    parts = jnp.moveaxis(images.reshape(-1, count, *images.shape[1:]), 1, 0)

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        codebook, so_far = carry
        number, images = part
        codebook, found = contribution(codebook, images, jax.random.fold_in(key, number))
        turns = [level.in_turns(number, count) for level in found.statistics]
        return (codebook, jax.tree.map(jnp.add, so_far, replace(found, statistics=turns))), None

    shapes = jax.eval_shape(contribution, codebook, parts[0], key)[1]
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    zeros = replace(zeros, gradients=_each_devices(zeros.gradients, axis_name))
    (codebook, total), _ = lax.scan(add, (codebook, zeros), (jnp.arange(count), parts))
    mean = jax.tree.map(lambda x: x / count, total)
    return codebook, replace(mean, statistics=total.statistics)


def _each_devices(tree: Any, axis_name: str | None) -> Any:
    """What all devices hold alike, as values that may differ from device to device."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.pcast(x, axis_name, to="varying"), tree)


def _mean(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def _update(player: Player, gradients: Any, model_state: dict[str, Any], optimizer: Any) -> Player:
    updates, opt_state = optimizer.update(gradients, player.opt_state, player.params)
    return Player(optax.apply_updates(player.params, updates), model_state, opt_state)


def _average(state: TrainState, generator: Player, decay: float) -> dict[str, Any]:
    # The first steps average over what there is so far, so that the initial parameters do not
    # linger.
    keep = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    now, _ = split_codebook(generator.variables())
    return jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.ema, now)
