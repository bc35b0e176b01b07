"""Generator and discriminator losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.losses import ADVERSARIAL, TERMS, Loss
from avq.models.vqvae import Reconstruction

Metrics = dict[str, Float[Array, ""]]


@dataclass(frozen=True)
class Objective:
    """Losses of the autoencoder (generator) and the discriminator; docs/PAPER.md names the source
    of each.

    Attributes:
        loss: weights and kinds.
    """

    loss: Loss

    def generator_loss(
        self,
        outputs: Reconstruction,
        targets: Float[Array, "b h w 3"],
        fake_logits: Float[Array, "b i j 1"] | None,
        adversarial_on: Float[Array, ""],
        frozen: Mapping[str, Any],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Weighted reconstruction terms, quantisation loss and adversarial loss; and each by name.

        Args:
            outputs: of the autoencoder for `targets`.
            targets: images in [-1, 1].
            fake_logits: of the discriminator for `outputs.images`; None without one.
            adversarial_on: whether the players play against each other, 1 or 0.
            frozen: values that terms read and training does not change.
        """
        weights = {name: weight for name, weight in self.loss.terms.items() if weight}
        metrics = {name: TERMS[name](outputs, targets, frozen) for name in weights}
        reconstruction = jnp.asarray(
            sum(weight * metrics[name] for name, weight in weights.items())
        )
        quantization = jnp.asarray(sum(level.loss for level in outputs.levels))
        total = reconstruction + quantization
        metrics |= {"reconstruction": reconstruction, "quantization": quantization}
        if fake_logits is not None:
            adversarial = ADVERSARIAL[self.loss.adversarial].generator(fake_logits)
            total += adversarial_on * self.loss.adversarial_weight * adversarial
            metrics["adversarial"] = adversarial
        return total, metrics | {"loss": total}

    def discriminator_loss(
        self,
        real_logits: Float[Array, "b i j 1"],
        fake_logits: Float[Array, "b i j 1"],
        adversarial_on: Float[Array, ""],
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss, which is 0 before the players play against each other, and its metrics."""
        loss = ADVERSARIAL[self.loss.adversarial].discriminator(real_logits, fake_logits)
        metrics = {"real_logit": jnp.mean(real_logits), "fake_logit": jnp.mean(fake_logits)}
        return adversarial_on * loss, metrics | {"discriminator_loss": loss}
