"""Generator and discriminator losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.losses import ADVERSARIAL, TERMS, Loss
from avq.losses.adversarial import feature_matching, gradient_ratio
from avq.models.vqvae import Reconstruction

Metrics = dict[str, Float[Array, ""]]
# From images to a discriminator's logits, and its features by layer.
Discriminate: TypeAlias = Callable[
    [Float[Array, "b h w c"]], tuple[Float[Array, "b i j 1"], tuple[Float[Array, "b _ _ _"], ...]]
]


@dataclass(frozen=True)
class Objective:
    """Losses of the autoencoder (generator) and the discriminator; docs/PAPER.md names the source
    of each.

    Attributes:
        loss: weights and kinds.
        axis_name: mapped axis over which a batch is split; None for one device.
    """

    loss: Loss
    axis_name: str | None = None

    def reconstruction_loss(
        self,
        outputs: Reconstruction,
        targets: Float[Array, "b h w c"],
        frozen: Mapping[str, Any],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Weighted sum of the reconstruction terms; and each by name. Arguments are those of
        `generator_loss`.
        """
        weights = {name: weight for name, weight in self.loss.terms.items() if weight}
        metrics = {name: TERMS[name](outputs, targets, frozen) for name in weights}
        return jnp.asarray(sum(weight * metrics[name] for name, weight in weights.items())), metrics

    def generator_loss(
        self,
        outputs: Reconstruction,
        targets: Float[Array, "b h w c"],
        discriminate: Discriminate | None,
        adversarial_on: Float[Array, ""],
        frozen: Mapping[str, Any],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Weighted reconstruction terms, quantisation loss and losses against the discriminator;
        and each by name.

        Args:
            outputs: of the autoencoder for `targets`.
            targets: images in [-1, 1].
            discriminate: the discriminator as a function of images; None without one.
            adversarial_on: whether the players play against each other, 1 or 0.
            frozen: values that terms read and training does not change.
        """
        reconstruction, metrics = self.reconstruction_loss(outputs, targets, frozen)
        quantization = jnp.asarray(sum(level.loss for level in outputs.levels))
        total = reconstruction + quantization
        metrics |= {"reconstruction": reconstruction, "quantization": quantization}
        if discriminate is not None:
            loss, more = self._against(discriminate, outputs, targets, adversarial_on, frozen)
            total, metrics = total + loss, metrics | more
        return total, metrics | {"loss": total}

    def _against(
        self,
        discriminate: Discriminate,
        outputs: Reconstruction,
        targets: Float[Array, "b h w c"],
        adversarial_on: Float[Array, ""],
        frozen: Mapping[str, Any],
    ) -> tuple[Float[Array, ""], Metrics]:
        """The autoencoder's losses against the discriminator, of `generator_loss`."""
        kind = ADVERSARIAL[self.loss.adversarial]
        logits, features = discriminate(outputs.images)
        metrics = {"adversarial": kind.generator(logits)}
        weight = self.loss.adversarial_weight * adversarial_on
        if self.loss.adversarial_adaptive:
            metrics["adversarial_scale"] = gradient_ratio(
                lambda x: self.reconstruction_loss(replace(outputs, images=x), targets, frozen)[0],
                lambda x: kind.generator(discriminate(x)[0]),
                outputs.images,
                self.axis_name,
            )
            weight *= metrics["adversarial_scale"]
        total = weight * metrics["adversarial"]
        if self.loss.feature_matching:
            metrics["feature_matching"] = feature_matching(discriminate(targets)[1], features)
            total += self.loss.feature_matching * adversarial_on * metrics["feature_matching"]
        return total, metrics

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
