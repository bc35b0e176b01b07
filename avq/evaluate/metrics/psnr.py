"""Peak signal-to-noise ratio."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from avq.evaluate.metrics.base import About, ImageMean, Mean, Metric, Value

FLOOR = 4e-10  # mean squared error below which an image counts as an exact copy


def psnr(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio of each image in dB, for pixels in [-1, 1], whose range is 2. An
    exact copy counts 100 dB.
    """
    return 10 * jnp.log10(4 / jnp.maximum(_squared_error(images, targets), FLOOR))


def _squared_error(
    images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
) -> Float[Array, "b"]:
    return jnp.mean((images - targets) ** 2, axis=(1, 2, 3))


class PeakSignalToNoiseRatio(ImageMean):
    """Mean over images of `psnr`, dB."""

    meaning: Mapping[str, str] = {"psnr": "peak signal-to-noise ratio, dB, mean over images"}

    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        return psnr(images, targets)


class PooledPeakSignalToNoiseRatio(Metric[Mean]):
    """Peak signal-to-noise ratio of the squared error of all pixels of all images, dB: at most the
    mean of `psnr`, in which images of small error weigh more.
    """

    meaning: Mapping[str, str] = {
        "psnr_pooled": "peak signal-to-noise ratio of the mean squared error of all images, dB"
    }

    def batch(
        self,
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        codes: tuple[Int[Array, "b _h _w"], ...],
        mask: Bool[Array, "b"],
        about: About,
    ) -> Mean:
        """Sum of the mean squared errors of the images."""
        return Mean.over(_squared_error(images, targets), mask)

    def summary(self, sums: Mean, about: About) -> dict[str, Value]:
        """The ratio for the mean over images of the squared error."""
        return {"psnr_pooled": 10 * math.log10(4 / max(sums.value(), FLOOR))}
