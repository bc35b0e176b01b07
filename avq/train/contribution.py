"""What a batch, or a micro-batch, adds to a training step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, UInt8

from avq.pixels import to_float
from avq.train.objective import Objective
from avq.train.state import split_codebook


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


def contribute(
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
    """The codebook, filled if it was empty, and what the images contribute.

    Args:
        params: by player.
        model_state: by player, without the codebook.
        codebook: the collection 'codebook'.
        images: of this device, 0..255.
        key: what is random in it is drawn from this.
        started: whether the players play against each other, 1 or 0.
        vqvae, discriminator, objective, axis_name, sync_batch_norm: as for `train_step`.
    """
    targets = to_float(images)

    def judge(params: Any, own_state: Any, x: Array) -> tuple[Array, Any]:
        assert discriminator is not None
        variables = {"params": params, **own_state}
        logits, mutated = discriminator.apply(variables, x, train=True, mutable=["batch_stats"])
        return logits, dict(mutated)

    def generate(own: Any) -> tuple[Array, Any]:
        out, mutated = vqvae.apply(
            {"params": own, **model_state["vqvae"], **codebook},
            targets,
            train=True,
            mutable=["batch_stats", "codebook"],
            rngs={"codebook": key},
        )
        fake = None
        if discriminator is not None:
            fake, _ = judge(params["discriminator"], model_state["discriminator"], out.images)
        loss, terms = objective.of_generator(out, targets, fake, started)
        return loss, (terms, dict(mutated), out)

    def discriminate(own: Any, fake_images: Array) -> tuple[Array, Any]:
        real, mutated = judge(own, model_state["discriminator"], targets)
        fake, mutated = judge(own, mutated, fake_images)
        loss, terms = objective.of_discriminator(real, fake, started)
        return loss, (terms, mutated)

    gradients, (metrics, mutated, out) = jax.grad(generate, has_aux=True)(params["vqvae"])
    own_state, filled = split_codebook(mutated)
    found = Contribution(
        {"vqvae": gradients},
        {"vqvae": own_state},
        metrics,
        [level.statistics for level in out.levels],
    )
    if discriminator is not None:
        gradients, (metrics, after) = jax.grad(discriminate, has_aux=True)(
            params["discriminator"], lax.stop_gradient(out.images)
        )
        found.gradients["discriminator"] = gradients
        found.model_state["discriminator"] = after
        found.metrics.update(metrics)
    if not sync_batch_norm:
        found = replace(found, model_state=mean_over(found.model_state, axis_name))
    return filled, replace(found, metrics=mean_over(found.metrics, axis_name))


def contribute_in_turns(
    contribute_part: Callable[..., tuple[dict[str, Any], Contribution]],
    codebook: dict[str, Any],
    images: UInt8[Array, "b h w 3"],
    key: Array,
    count: int,
    axis_name: str | None,
) -> tuple[dict[str, Any], Contribution]:
    """As `contribute`, in `count` micro-batches, of which the first fills an empty codebook.

    Args:
        contribute_part: `(codebook, images, key) -> (codebook, contribution)`.
        codebook, images, key, axis_name: as for `contribute`; `count` divides the images.
        count: of micro-batches.
    """
    # Every count-th image, so that a part holds the same ones on any number of devices.
    parts = jnp.moveaxis(images.reshape(-1, count, *images.shape[1:]), 1, 0)

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        codebook, so_far = carry
        number, images = part
        codebook, found = contribute_part(codebook, images, jax.random.fold_in(key, number))
        turns = [level.in_turns(number, count) for level in found.statistics]
        return (codebook, jax.tree.map(jnp.add, so_far, replace(found, statistics=turns))), None

    shapes = jax.eval_shape(contribute_part, codebook, parts[0], key)[1]
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    zeros = replace(zeros, gradients=each_devices(zeros.gradients, axis_name))
    (codebook, total), _ = lax.scan(add, (codebook, zeros), (jnp.arange(count), parts))
    mean = jax.tree.map(lambda x: x / count, total)
    return codebook, replace(mean, statistics=total.statistics)


def each_devices(tree: Any, axis_name: str | None) -> Any:
    """What all devices hold alike, as values that may differ from device to device."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.pcast(x, axis_name, to="varying"), tree)


def mean_over(tree: Any, axis_name: str | None) -> Any:
    """The mean over the devices."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)
