"""Adversarial losses of generator and discriminator, means over patches.

To add one, write a subclass of `AdversarialLoss` and add one line to `ADVERSARIAL`; a config takes
it as `loss.adversarial`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

DECAY = 0.99  # of the average logits of `lecam`


class AdversarialLoss(ABC):
    """Losses of the two players. Logits are high where the discriminator takes a patch for real."""

    @abstractmethod
    def generator(self, fake_logits: Float[Array, "b h w 1"]) -> Float[Array, ""]:
        """Generator loss: lower, the more real the generated patches look."""

    @abstractmethod
    def discriminator(
        self, real_logits: Float[Array, "b h w 1"], fake_logits: Float[Array, "b h w 1"]
    ) -> Float[Array, ""]:
        """Discriminator loss: sum, not mean, of the losses of real and of generated patches."""


class NonSaturating(AdversarialLoss):
    """Cross-entropy, with `-log sigmoid(fake)` for the generator (Goodfellow et al., 2014)."""

    def generator(self, fake_logits: Float[Array, "b h w 1"]) -> Float[Array, ""]:
        """Cross-entropy of generated patches against ones."""
        return jnp.mean(jax.nn.softplus(-fake_logits))

    def discriminator(
        self, real_logits: Float[Array, "b h w 1"], fake_logits: Float[Array, "b h w 1"]
    ) -> Float[Array, ""]:
        """Cross-entropy of real patches against ones plus that of generated ones against zeros."""
        return jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits))


class Hinge(AdversarialLoss):
    """Hinge loss of the discriminator, linear loss of the generator (Lim and Ye, 2017)."""

    def generator(self, fake_logits: Float[Array, "b h w 1"]) -> Float[Array, ""]:
        """`-fake`."""
        return -jnp.mean(fake_logits)

    def discriminator(
        self, real_logits: Float[Array, "b h w 1"], fake_logits: Float[Array, "b h w 1"]
    ) -> Float[Array, ""]:
        """`max(0, 1 - real) + max(0, 1 + fake)`."""
        return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))


class LeastSquares(AdversarialLoss):
    """Squared distance of logits to 1 for real and 0 for generated patches (Mao et al., 2017)."""

    def generator(self, fake_logits: Float[Array, "b h w 1"]) -> Float[Array, ""]:
        """`(fake - 1)^2`."""
        return jnp.mean((fake_logits - 1) ** 2)

    def discriminator(
        self, real_logits: Float[Array, "b h w 1"], fake_logits: Float[Array, "b h w 1"]
    ) -> Float[Array, ""]:
        """`(real - 1)^2 + fake^2`."""
        return jnp.mean((real_logits - 1) ** 2) + jnp.mean(fake_logits**2)


def gradient_penalty(
    logits: Callable[[Float[Array, "b h w c"]], Float[Array, "b i j 1"]],
    images: Float[Array, "b h w c"],
) -> Float[Array, ""]:
    """Half the squared length of the gradient of an image's mean logit, mean over images (R1).

    Reference: Mescheder et al. (2018), "Which training methods for GANs do actually converge?",
    equation 9.

    Args:
        logits: of the discriminator.
        images: real ones.
    """
    gradients = jax.grad(lambda x: jnp.sum(jnp.mean(logits(x), axis=(1, 2, 3))))(images)
    return jnp.mean(jnp.sum(gradients**2, axis=(1, 2, 3))) / 2


def gradient_ratio(
    reconstruction: Callable[[Float[Array, "b h w c"]], Float[Array, ""]],
    adversarial: Callable[[Float[Array, "b h w c"]], Float[Array, ""]],
    images: Float[Array, "b h w c"],
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Length of the reconstruction loss's gradient over that of the adversarial loss, at the
    reconstructions of the global batch, at most 10,000. No gradient passes.

    Reference: Esser et al. (2021), "Taming transformers for high-resolution image synthesis",
    equation 7, which takes the gradients at the last layer of the decoder.

    Args:
        reconstruction, adversarial: losses of images.
        images: reconstructions, this device's part.
        axis_name: mapped axis over which the batch is split.
    """
    images = lax.stop_gradient(images)
    squares = jnp.stack([jnp.sum(jax.grad(f)(images) ** 2) for f in (reconstruction, adversarial)])
    lengths = jnp.sqrt(squares if axis_name is None else lax.pmean(squares, axis_name))
    return lax.stop_gradient(jnp.minimum(lengths[0] / (lengths[1] + 1e-6), 1e4))


def feature_matching(
    real: tuple[Float[Array, "b _ _ _"], ...], fake: tuple[Float[Array, "b _ _ _"], ...]
) -> Float[Array, ""]:
    """Mean absolute difference of a discriminator's features, summed over its layers.

    Reference: Wang et al. (2018), "High-resolution image synthesis and semantic manipulation with
    conditional GANs", equation 4, for a discriminator of one scale.

    Args:
        real, fake: features of images and of their reconstructions, by layer.
    """
    pairs = zip(real, fake, strict=True)
    return jnp.asarray(
        sum(jnp.mean(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32))) for a, b in pairs)
    )


def lecam(
    real_logits: Float[Array, "b h w 1"],
    fake_logits: Float[Array, "b h w 1"],
    averages: Mapping[str, Float[Array, ""]],
) -> Float[Array, ""]:
    """Squares of how far real logits lie above the average fake one, and fake logits below the
    average real one; means over patches. It keeps a discriminator from growing sure of its few
    images.

    Reference: Tseng et al. (2021), "Regularizing generative adversarial networks under limited
    data", section 3.2. Logits on the other side of an average are left alone, as in the authors'
    code.

    Args:
        real_logits, fake_logits: of the discriminator.
        averages: 'real' and 'fake', of the steps before.
    """
    above = jax.nn.relu(real_logits - averages["fake"])
    below = jax.nn.relu(averages["real"] - fake_logits)
    return jnp.mean(above**2) + jnp.mean(below**2)


def updated_averages(
    averages: Mapping[str, Float[Array, ""]],
    real_logits: Float[Array, "b h w 1"],
    fake_logits: Float[Array, "b h w 1"],
) -> dict[str, Float[Array, ""]]:
    """Moving averages of the mean logits after a (micro-)batch. They are linear in the logits, so
    that their mean over devices and micro-batches is that of the batch.
    """
    means = {"real": jnp.mean(real_logits), "fake": jnp.mean(fake_logits)}
    return {name: DECAY * averages[name] + (1 - DECAY) * mean for name, mean in means.items()}


ADVERSARIAL: dict[str, AdversarialLoss] = {
    "non_saturating": NonSaturating(),
    "hinge": Hinge(),
    "least_squares": LeastSquares(),
}
