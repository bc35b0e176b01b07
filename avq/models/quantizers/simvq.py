"""Vector quantiser whose codes are one learned linear map of fixed random vectors.

Source: Zhu et al. (2024), "Addressing representation collapse in vector quantized models with one
linear layer", section 4.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.models.quantizers.base import Quantized, VectorQuantizer, codebook_loss


class SimVQQuantizer(VectorQuantizer):
    """Vector quantiser whose whole codebook moves with every gradient: `codes W`, where only the
    square matrix W is learned.
    """

    def setup(self) -> None:
        shape = (self.codebook_size, self.code_dim)

        def fixed() -> Float[Array, "k d"]:
            deviates: Array = jax.random.normal(self.make_rng("params"), shape)
            return deviates / math.sqrt(shape[1])

        self.fixed = self.variable("codebook", "embedding", fixed)
        self.kernel = self.param("kernel", nn.initializers.orthogonal(), (shape[1], shape[1]))

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        precision = jax.lax.Precision.HIGHEST
        return self.scaled(jnp.matmul(self.fixed.value, self.kernel, precision=precision))

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32."""
        return self.quantize(self.latents(z), train)

    def loss(
        self, z: Float[Array, "b h w d"], chosen: Float[Array, "b h w d"], train: bool
    ) -> Float[Array, ""]:
        """Commitment, spread and codebook loss."""
        return super().loss(z, chosen, train) + codebook_loss(z, chosen)
