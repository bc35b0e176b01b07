"""What each player makes smaller, of what both put out."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from avq import losses
from avq.models.vqvae import Reconstruction

Metrics = dict[str, Float[Array, "..."]]


@flax.struct.dataclass
class Objective:
    """The losses of both players, and their numbers; docs/PAPER.md says where each comes from.

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

    def of_generator(
        self,
        out: Reconstruction,
        targets: Float[Array, "b h w 3"],
        fake_logits: Float[Array, "b i j 1"] | None,
        started: Float[Array, ""],
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss and its terms.

        Args:
            out: what the autoencoder puts out for `targets`.
            targets: images in [-1, 1].
            fake_logits: what the discriminator says of `out.images`; None without one.
            started: whether the players play against each other, 1 or 0.
        """
        mae = losses.mean_absolute_error(images=out.images, targets=targets)
        quantization = sum(level.loss for level in out.levels)
        terms = {"mae": mae, "quantization": quantization}
        total = mae / self.pixel_variance + quantization
        if fake_logits is not None:
            terms["adversarial"] = losses.generator_loss(
                fake_logits=fake_logits, kind=self.adversarial
            )
            total += started * self.adversarial_weight * terms["adversarial"]
        return total, terms | {"loss": total}

    def of_discriminator(
        self,
        real_logits: Float[Array, "b i j 1"],
        fake_logits: Float[Array, "b i j 1"],
        started: Float[Array, ""],
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss, which is 0 before the players play against each other, and its terms."""
        loss = losses.discriminator_loss(
            real_logits=real_logits, fake_logits=fake_logits, kind=self.adversarial
        )
        terms = {"real_logit": jnp.mean(real_logits), "fake_logit": jnp.mean(fake_logits)}
        return started * loss, terms | {"discriminator_loss": loss}
