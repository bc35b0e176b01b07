"""Mean absolute error."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.evaluate.metrics.base import About, ImageMean, Mean, Value


class MeanAbsoluteError(ImageMean):
    """Mean of `|image - target|`, alone and relative to the spread of the training pixels."""

    meaning: Mapping[str, str] = {
        "mae": "mean absolute error, pixels in [-1, 1]",
        "mae_over_std": "the same over the standard deviation of the training pixels",
        "mae_over_var": "the same over their variance, the paper's MAE/sigma",
    }

    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        return jnp.mean(jnp.abs(images - targets), axis=(1, 2, 3))

    def summary(self, sums: Mean, about: About) -> dict[str, Value]:
        """The mean over images, and the same over `pixel_std` and `pixel_variance`."""
        mae = sums.value()
        return {
            "mae": mae,
            "mae_over_std": mae / about.pixel_std,
            "mae_over_var": mae / about.pixel_variance,
        }
