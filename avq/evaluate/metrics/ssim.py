"""Structural similarity, at one scale and at several."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from avq.evaluate.metrics.base import About, ImageMean, Mean, Value

WINDOW, SIGMA = 11, 1.5  # side and standard deviation of the Gaussian window, pixels
C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. (2003), finest first


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
    return _similarity(images / 2, targets / 2)[0]


def ms_ssim(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Multi-scale structural similarity of each image: the product, each to the power of its
    scale's weight, of the contrast-structure term at every scale and of the whole index at the
    coarsest. A scale halves the one before by means over 2x2 pixels.

    Wang et al. (2003) have five scales, for which a side of 176 pixels is needed; smaller images
    have the `scales` that fit, with weights divided by their sum. What the paper leaves open is as
    in torchmetrics, `normalize="relu"`: terms are means over windows and channels before they are
    multiplied, negative ones count 0, and at the coarsest scale, where windows inside the image
    would leave out most of its pixels, the image is continued by reflection.

    Args:
        images, targets: pixels in [-1, 1].
    """
    count = scales(min(images.shape[1:3]))
    weights = np.array(SCALE_WEIGHTS[:count]) / sum(SCALE_WEIGHTS[:count])
    x, y = images / 2, targets / 2
    product: Array = jnp.ones(len(images))
    for weight in weights[:-1].tolist():
        _, contrast = _similarity(x, y)
        product *= jnp.maximum(contrast, 0) ** weight
        x, y = _halved(x), _halved(y)
    index, _ = _similarity(_reflected(x), _reflected(y))
    return product * jnp.maximum(index, 0) ** float(weights[-1])


def scales(side: int) -> int:
    """Number of scales of `ms_ssim`, at most five, at which the window fits into an image.

    Example:
        >>> scales(64)  # 64, 32 and 16 pixels
        3
    """
    return sum(side >> scale >= WINDOW for scale in range(len(SCALE_WEIGHTS)))


def _similarity(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """Means over windows and channels of the index, and of its term of contrast and structure.

    Args:
        x, y: pixels in [-0.5, 0.5]: around 0, variances lose the fewest digits.
    """
    mx, my = _window_mean(x), _window_mean(y)
    variances = _window_mean(x**2 + y**2) - mx**2 - my**2
    covariance = _window_mean(x * y) - mx * my
    contrast = (2 * covariance + C2) / (variances + C2)
    mx, my = mx + 0.5, my + 0.5
    luminance = (2 * mx * my + C1) / (mx**2 + my**2 + C1)
    axes = (1, 2, 3)
    return jnp.mean(luminance * contrast, axis=axes), jnp.mean(contrast, axis=axes)


def _window_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Weighted means of the windows inside the images, as products with band matrices, which take a
    sixth of the time of sums of shifted images on a CPU.
    """
    rows, columns = (_band_matrix(side) for side in x.shape[1:3])
    precision = jax.lax.Precision.HIGHEST
    x = jnp.einsum("Hh,bhwc->bHwc", rows, x, precision=precision)
    return jnp.einsum("Ww,bHwc->bHWc", columns, x, precision=precision)


def _band_matrix(side: int) -> Float[np.ndarray, "_s {side}"]:
    """One window a row, its weights in the columns of its pixels."""
    offsets = np.arange(side) - np.arange(side - WINDOW + 1)[:, None] - WINDOW // 2
    bell = np.where(abs(offsets) <= WINDOW // 2, np.exp(-(offsets**2) / (2 * SIGMA**2)), 0)
    bell /= bell.sum(axis=1, keepdims=True)
    matrix: Float[np.ndarray, "_s {side}"] = bell.astype(np.float32)
    return matrix


def _halved(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Means over 2x2 pixels; the last row or column of an odd side is left out."""
    b, h, w, c = x.shape
    blocks = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
    return jnp.mean(blocks, axis=(2, 4))


def _reflected(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Images with half a window more on each side."""
    margin = (WINDOW // 2, WINDOW // 2)
    return jnp.pad(x, ((0, 0), margin, margin, (0, 0)), mode="reflect")


class StructuralSimilarity(ImageMean):
    """Mean over images of `ssim`."""

    meaning: Mapping[str, str] = {
        "ssim": "structural similarity, pixels in [0, 1], mean over images"
    }

    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        return ssim(images, targets)


class MultiScaleStructuralSimilarity(ImageMean):
    """Mean over images of `ms_ssim`. Its first scale costs nothing beside `ssim`: the compiler
    finds the same terms in both.
    """

    meaning: Mapping[str, str] = {
        "ms_ssim": "multi-scale structural similarity, pixels in [0, 1], mean over images",
        "ms_ssim_scales": "its scales: five as published, fewer where the image is too small",
    }

    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        return ms_ssim(images, targets)

    def summary(self, sums: Mean, about: About) -> dict[str, Value]:
        """The mean over images, and the number of scales."""
        return super().summary(sums, about) | {"ms_ssim_scales": scales(about.image_size)}
