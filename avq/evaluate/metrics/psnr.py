"""Peak signal-to-noise ratio."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.evaluate.metrics.base import ImageMean


def psnr(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio of each image in dB, for pixels in [-1, 1], whose range is 2. An
    exact copy counts 100 dB.
    """
    error = jnp.mean((images - targets) ** 2, axis=(1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(error, 4e-10))


class PeakSignalToNoiseRatio(ImageMean):
    """Mean over images of `psnr`, dB."""

    meaning: Mapping[str, str] = {"psnr": "peak signal-to-noise ratio, dB, mean over images"}

    def per_image(
        self, images: Float[Array, "b h w 3"], targets: Float[Array, "b h w 3"]
    ) -> Float[Array, "b"]:
        return psnr(images, targets)
