"""One training step of both players: a pure function of state and batch."""

from dataclasses import replace
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
from avq.train.state import Player, TrainState, averaged

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


def train_step(
    state: TrainState,
    images: UInt8[Array, "b h w 3"],
    *,
    vqvae: nn.Module,
    discriminator: nn.Module | None,
    optimizers: dict[str, optax.GradientTransformation],
    objective: Objective,
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
        axis_name: mapped axis that the batch is split over; None for a single device.
        sync_batch_norm: whether the modules take batch statistics over that axis; if not, the
            running ones become the mean of all devices'.

    Returns:
        The state after the step, and metrics: scalars, one value a level of `perplexity`, and the
        `code_counts` `[levels, k]` of the global batch.
    """

    def mean(tree: Any) -> Any:
        # The mean over devices stands inside the loss: the gradient of a replicated parameter is
        # summed over the devices already.
        return tree if axis_name is None else lax.pmean(tree, axis_name)

    def shared(model_state: dict[str, Any]) -> dict[str, Any]:
        own = () if sync_batch_norm else ("batch_stats",)
        return {name: mean(tree) if name in own else tree for name, tree in model_state.items()}

    targets = to_float(images)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    started = (state.step >= objective.adversarial_start).astype(jnp.float32)

    def judge(params: Any, model_state: dict[str, Any], x: Array) -> tuple[Array, dict[str, Any]]:
        assert discriminator is not None
        logits, mutated = discriminator.apply(
            {"params": params, **model_state}, x, train=True, mutable=["batch_stats"]
        )
        return logits, dict(mutated)

    def generator_objective(params: Any) -> tuple[Array, Any]:
        out, mutated = vqvae.apply(
            {"params": params, **state.vqvae.model_state},
            targets,
            train=True,
            mutable=["batch_stats", "codebook"],
            rngs={"codebook": key},
        )
        mae = losses.mean_absolute_error(images=out.images, targets=targets)
        quantization = sum(level.loss for level in out.levels)
        terms = {"mae": mae, "quantization": quantization}
        total = mae / objective.pixel_variance + quantization
        if state.discriminator is not None:
            fake, _ = judge(state.discriminator.params, state.discriminator.model_state, out.images)
            terms["adversarial"] = losses.generator_loss(
                fake_logits=fake, kind=objective.adversarial
            )
            total += started * objective.adversarial_weight * terms["adversarial"]
        return mean(total), (mean(terms), dict(mutated), out)

    def discriminator_objective(params: Any, fake_images: Array) -> tuple[Array, Any]:
        assert state.discriminator is not None
        real, mutated = judge(params, state.discriminator.model_state, targets)
        fake, mutated = judge(params, mutated, fake_images)
        loss = mean(
            losses.discriminator_loss(
                real_logits=real, fake_logits=fake, kind=objective.adversarial
            )
        )
        logits = mean({"real_logit": jnp.mean(real), "fake_logit": jnp.mean(fake)})
        return started * loss, (loss, logits, mutated)

    gradient_of = jax.value_and_grad(generator_objective, has_aux=True)
    (loss, (metrics, mutated, out)), gradients = gradient_of(state.vqvae.params)
    generator = _update(state.vqvae, gradients, shared(mutated), optimizers["vqvae"])
    metrics |= {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
    metrics["code_counts"] = jnp.stack([level.counts for level in out.levels])
    metrics["perplexity"] = jax.vmap(perplexity)(metrics["code_counts"])

    opponent = state.discriminator
    if opponent is not None:
        gradient_of = jax.value_and_grad(discriminator_objective, has_aux=True)
        (_, (loss, logits, mutated)), gradients = gradient_of(
            opponent.params, lax.stop_gradient(out.images)
        )
        opponent = _update(opponent, gradients, shared(mutated), optimizers["discriminator"])
        metrics |= {"discriminator_loss": loss, **logits}
        metrics["discriminator_gradient_norm"] = optax.tree.norm(gradients)

    ema = _average(state, generator, objective.ema_decay)
    after = TrainState(state.step + 1, generator, opponent, ema, state.rng, state.skipped)
    if objective.skip_nonfinite:
        finite = jnp.all(jnp.isfinite(jnp.stack([v for v in metrics.values() if v.ndim == 0])))
        before = replace(state, step=state.step + 1, skipped=state.skipped + 1)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
        metrics["skipped"] = after.skipped
    return after, metrics


def _update(player: Player, gradients: Any, model_state: dict[str, Any], optimizer: Any) -> Player:
    updates, opt_state = optimizer.update(gradients, player.opt_state, player.params)
    return Player(optax.apply_updates(player.params, updates), model_state, opt_state)


def _average(state: TrainState, generator: Player, decay: float) -> dict[str, Any]:
    # The first steps average over what there is so far, so that the initial parameters do not
    # linger.
    keep = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(
        lambda old, new: keep * old + (1 - keep) * new, state.ema, averaged(generator.variables())
    )
