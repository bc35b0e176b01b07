"""Binary quantisation: every channel is quantised to its sign; there is no table.

Sources: Yu et al. (2023), "Language model beats diffusion", section 3.1 (lookup-free quantisation,
LFQ); Zhao et al. (2024), "Image and video tokenization with binary spherical quantization",
sections 3.1 and 3.3 (BSQ, and the entropy of the batch as a product over channels).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from avq.models.quantizers.base import (
    CodebookStatistics,
    Quantized,
    Quantizer,
    axis_size,
    of_unit_length,
    psum,
    straight_through,
)
from avq.settings import setting


class LFQQuantizer(Quantizer):
    """Signs of the latents' channels, as 1 and -1. Bit i of a code is channel i's."""

    bits: int = setting(8, "lfq, bsq: channels of a latent, one bit each", low=1, high=24)
    binary_commitment: float = setting(
        0.25, "lfq, bsq: weight of |z - sg(e)|^2, which keeps the latents near signs", low=0
    )
    entropy_weight: float = setting(
        0.1, "lfq, bsq: weight of a latent's entropy less that of the batch, nats a bit", low=0
    )

    @property
    def codebook_size(self) -> int:
        """Two to the number of bits."""
        return int(2**self.bits)

    @property
    def code_dim(self) -> int:
        """Number of bits."""
        return self.bits

    @property
    def magnitude(self) -> float:
        """Absolute value of a code's channels."""
        return 1.0

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        return self.lookup(jnp.arange(self.codebook_size))

    def lookup(self, codes: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """Vectors of codes."""
        bits = jnp.stack([codes >> bit & 1 for bit in range(self.bits)], axis=-1)
        return (2.0 * bits.astype(jnp.float32) - 1.0) * self.magnitude

    def latents(self, z: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Latents that are quantised."""
        return z

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32; the loss is the commitment and the entropies."""
        z = self.latents(z.astype(jnp.float32))
        signs = (z > 0).astype(jnp.int32)
        codes = signs @ jnp.asarray(2 ** np.arange(self.bits), jnp.int32)
        vectors = self.lookup(codes)
        loss = self.binary_commitment * jnp.mean((z - jax.lax.stop_gradient(vectors)) ** 2)
        if self.entropy_weight:
            loss += self.entropy_weight * self._entropy_loss(z, self.mapped_axis(train))
        statistics = CodebookStatistics(self.count_codes(codes, train))
        vectors = straight_through(z, vectors) if train else vectors
        return Quantized(vectors, codes, loss, statistics, z)

    def _entropy_loss(self, z: Float[Array, "b h w d"], axis_name: str | None) -> Float[Array, ""]:
        """Mean entropy of a latent's soft choice, over its bits, less that of the mean choice of
        the global batch.

        A soft choice is the softmax of `-|z - e|^2 / magnitude^2` over all codes, in which the bits
        are independent.
        """
        logits = 4 * z.reshape(-1, self.bits) / self.magnitude
        p = jax.nn.sigmoid(logits)
        mean = psum(p.sum(0), axis_name) / (len(p) * axis_size(axis_name))
        return jnp.mean(binary_entropy(p)) - jnp.mean(binary_entropy(mean))


class BSQQuantizer(LFQQuantizer):
    """Signs of latents on the unit sphere, as vectors of it."""

    @property
    def magnitude(self) -> float:
        """Absolute value of a code's channels."""
        return float(self.bits**-0.5)

    def latents(self, z: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Latents scaled to length 1."""
        return of_unit_length(z)


def binary_entropy(p: Float[Array, "..."]) -> Float[Array, "..."]:
    """Entropy of a bit that is 1 with probability `p`, nats."""
    p = jnp.clip(p, 1e-7, 1 - 1e-7)
    return -p * jnp.log(p) - (1 - p) * jnp.log1p(-p)
