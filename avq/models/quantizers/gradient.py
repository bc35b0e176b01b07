"""Vector quantiser whose codebook is a parameter, learned by gradient descent.

Source: van den Oord et al. (2017), equation 3.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from avq.models.quantizers.base import (
    CodebookStatistics,
    Quantized,
    VectorQuantizer,
    uniform_codes,
)


class GradientQuantizer(VectorQuantizer):
    """Vector quantiser whose codebook is a parameter, drawn to the latents by the codebook loss
    `|sg(z) - e|^2`. Dead codes are not replaced.
    """

    def setup(self) -> None:
        self.embedding = self.param("embedding", uniform_codes, (self.codebook_size, self.code_dim))

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        return self.scaled(self.embedding)

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32; the loss is the commitment and the codebook loss."""
        z = self.latents(z)
        codes, chosen = self.nearest(z)
        loss = self.commitment * jnp.mean((z - lax.stop_gradient(chosen)) ** 2)
        loss += self.matching_loss(z, train)
        loss += jnp.mean((lax.stop_gradient(z) - chosen) ** 2)
        statistics = CodebookStatistics(self.count_codes(codes, train))
        vectors = self.passed(z, chosen) if train else chosen
        return Quantized(vectors, codes, loss, statistics, z)
