"""Vector quantiser that is differentiable in latents and codes, without losses of its own.

Source: Vali et al. (2025), "DiVeQ: Differentiable vector quantization using the reparameterization
trick", section 3.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from avq.models.quantizers.base import of_unit_length
from avq.models.quantizers.gradient import GradientQuantizer

VARIANCE = 1e-3  # of the deviates that are added to the direction from a latent to its code


class DiVeQQuantizer(GradientQuantizer):
    """Vector quantiser that adds to a latent an error as long as its distance to the nearest code
    and nearly in that direction. The gradient of what is trained passes the length, to latents and
    codes. Neither `commitment` nor `estimator` has a part in it.
    """

    def passed(
        self, z: Float[Array, "b h w d"], vectors: Float[Array, "b h w d"]
    ) -> Float[Array, "b h w d"]:
        """`z + |e - z| sg(v / |v|)`, where v is `e - z` and normal deviates."""
        error = vectors - z
        direction = lax.stop_gradient(error + VARIANCE**0.5 * self._deviates(z))
        # The length has no gradient at a latent that is a code, as those that filled the table are.
        squared = jnp.maximum(jnp.sum(error * error, axis=-1, keepdims=True), 1e-12)
        return z + jnp.sqrt(squared) * of_unit_length(direction)

    def loss(
        self, z: Float[Array, "b h w d"], chosen: Float[Array, "b h w d"], train: bool
    ) -> Float[Array, ""]:
        """`spread_loss` alone."""
        return self.spread_loss(z, train)

    def _deviates(self, z: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Normal deviates, the same for an image on any number of devices."""
        first = 0 if self.axis_name is None else lax.axis_index(self.axis_name) * len(z)
        key = self.make_rng("codebook")
        keys = jax.vmap(lambda image: jax.random.fold_in(key, image))(first + jnp.arange(len(z)))
        deviates: Array = jax.vmap(lambda key: jax.random.normal(key, z.shape[1:]))(keys)
        return deviates
