"""Vector quantiser whose codebook is a parameter, learned by gradient descent.

Source: van den Oord et al. (2017), equation 3.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from avq.models.quantizers.base import (
    CodebookStatistics,
    codebook_loss,
    uniform_codes,
)
from avq.models.quantizers.filled import FilledQuantizer


class GradientQuantizer(FilledQuantizer):
    """Vector quantiser whose codebook is drawn to the latents by the codebook loss.

    A code is the sum of where it started, which is state and moves when a batch fills the codebook
    or the code is replaced, and of the parameter 'embedding', which gradients move.
    """

    def setup(self) -> None:
        shape = (self.codebook_size, self.code_dim)
        self.start = self.variable(
            "codebook", "start", lambda: uniform_codes(self.make_rng("params"), shape)
        )
        self.use = self.variable("codebook", "use", jnp.zeros, shape[:1], jnp.float32)
        self.embedding = self.param("embedding", nn.initializers.zeros, shape)

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        return self.scaled(self.start.value + self.embedding)

    def fill_if_empty(self, latents: Float[Array, "n d"], candidates: Float[Array, "k d"]) -> None:
        """Fills starts and use."""
        empty = self.use.value.sum() == 0
        codes = self.first_codes(latents, candidates, empty)
        self.start.value = jnp.where(empty, self._starting(codes), self.start.value)
        self.use.value = jnp.where(empty, self.fresh_use(latents), self.use.value)

    def loss(
        self, z: Float[Array, "b h w d"], chosen: Float[Array, "b h w d"], train: bool
    ) -> Float[Array, ""]:
        """Commitment, spread and codebook loss."""
        return super().loss(z, chosen, train) + codebook_loss(z, chosen)

    def update(self, statistics: CodebookStatistics) -> None:
        """Moves the average use by a batch and replaces dead codes."""
        keep = self.codebook_decay
        use = keep * self.use.value + (1 - keep) * statistics.counts
        dead, vectors, self.use.value = self.revived(use, self.codebook(), statistics)
        self.start.value = jnp.where(dead[:, None], self._starting(vectors), self.start.value)

    def _starting(self, codes: Float[Array, "k d"]) -> Array:
        """Starts from which the codebook has these codes now."""
        return codes - lax.stop_gradient(self.embedding)
