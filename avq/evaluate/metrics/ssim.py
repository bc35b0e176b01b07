"""Structural similarity."""

import operator
from collections.abc import Mapping
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from avq.evaluate.metrics.base import ImageMean

WINDOW, SIGMA = 11, 1.5  # side and standard deviation of the Gaussian window, pixels


def ssim(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Structural similarity of each image: the mean over channels and over the windows inside the
    image.

    Gaussian window of 11x11 and sigma 1.5, K1 = 0.01, K2 = 0.03. Computed on pixels in [0, 1], of
    range 1, since the index changes when pixels are shifted. Reference: Wang et al. (2004); equal
    to scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255)` of 0..255.

    Args:
        images, targets: pixels in [-1, 1].
    """
    c1, c2 = 0.01**2, 0.03**2
    x, y = images / 2, targets / 2  # around 0, where variances lose the fewest digits
    mx, my = _window_mean(x), _window_mean(y)
    vx = _window_mean(x**2) - mx**2
    vy = _window_mean(y**2) - my**2
    cov = _window_mean(x * y) - mx * my
    mx, my = mx + 0.5, my + 0.5
    index = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return jnp.mean(index, axis=(1, 2, 3))


def _window_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    offsets = np.arange(WINDOW) - WINDOW // 2
    bell = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights: list[float] = (bell / bell.sum()).tolist()

    def along(y: Array, axis: int) -> Array:
        length = y.shape[axis] - WINDOW + 1
        parts = (
            w * jax.lax.slice_in_dim(y, i, i + length, axis=axis) for i, w in enumerate(weights)
        )
        return reduce(operator.add, parts)

    return along(along(x, 1), 2)


class StructuralSimilarity(ImageMean):
    """Mean over images of `ssim`."""

    meaning: Mapping[str, str] = {
        "ssim": "structural similarity, pixels in [0, 1], mean over images"
    }

    def per_image(
        self, images: Float[Array, "b h w 3"], targets: Float[Array, "b h w 3"]
    ) -> Float[Array, "b"]:
        return ssim(images, targets)
