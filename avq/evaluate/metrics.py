"""Measures of reconstruction and of code use, as sums that can be merged over batches, devices and
hosts.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from avq.models.quantizer import perplexity

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


@flax.struct.dataclass
class Sums:
    """Sums over images, to be added up leaf by leaf.

    Attributes:
        n: images.
        absolute_error: of the mean absolute error of an image, in [-1, 1] units.
        psnr: of the peak signal-to-noise ratio of an image, dB.
        ssim: of the structural similarity of an image.
        code_counts: how often each code was chosen, `[k]` a level, finest first.
    """

    n: Any
    absolute_error: Any
    psnr: Any
    ssim: Any
    code_counts: tuple[Any, ...]


def batch_sums(
    images: Float[Array, "b h w 3"],
    targets: Float[Array, "b h w 3"],
    codes: tuple[Int[Array, "b _h _w"], ...],
    mask: Bool[Array, "b"],
    *,
    k: int,
) -> Sums:
    """Sums over the rows of a batch where `mask` is true; images are clipped to [-1, 1] first."""
    images = jnp.clip(images, -1, 1)

    def total(per_image: Array) -> Array:
        return jnp.sum(jnp.where(mask, per_image, 0.0))

    def counts(grid: Array) -> Array:
        rows = jnp.broadcast_to(mask[:, None, None], grid.shape).astype(jnp.float32)
        return jnp.zeros(k).at[grid].add(rows)

    return Sums(
        n=jnp.sum(mask),
        absolute_error=total(jnp.mean(jnp.abs(images - targets), axis=(1, 2, 3))),
        psnr=total(psnr(images, targets)),
        ssim=total(ssim(images, targets)),
        code_counts=tuple(counts(grid) for grid in codes),
    )


def merge(a: Sums, b: Sums) -> Sums:
    """The sums over the images of both, in float64 on the host."""
    return jax.tree.map(lambda x, y: np.add(x, y, dtype=np.float64), a, b)


def psnr(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio of each image in dB; the values span 2, from -1 to 1. An exact
    copy counts 100 dB.
    """
    error = jnp.mean((images - targets) ** 2, axis=(1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(error, 4e-10))


def ssim(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Structural similarity of each image, the mean over channels and over windows that lie inside
    the image.

    Gaussian window of 11x11 and sigma 1.5, K1 = 0.01, K2 = 0.03, values spanning 2 (-1 to 1).
    Reference: Wang et al. (2004); equal to scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=2)`.
    """
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mx, my = _window_mean(images), _window_mean(targets)
    vx = _window_mean(images**2) - mx**2
    vy = _window_mean(targets**2) - my**2
    cov = _window_mean(images * targets) - mx * my
    index = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return jnp.mean(index, axis=(1, 2, 3))


def _window_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    bell = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = (bell / bell.sum()).tolist()

    def along(y: Array, axis: int) -> Array:
        length = y.shape[axis] - SSIM_WINDOW + 1
        return sum(
            w * jax.lax.slice_in_dim(y, i, i + length, axis=axis) for i, w in enumerate(weights)
        )

    return along(along(x, 1), 2)


def summarize(sums: Sums, *, pixel_std: float, pixel_variance: float) -> dict[str, Any]:
    """Means and code statistics of merged sums, by the names of `avq eval`'s JSON.

    Args:
        sums: over all images.
        pixel_std, pixel_variance: of the training pixels in [-1, 1].
    """
    n = int(sums.n)
    mae = float(sums.absolute_error) / n
    active = [int(np.sum(np.asarray(counts) > 0)) for counts in sums.code_counts]
    return {
        "n": n,
        "mae": mae,
        "mae_over_std": mae / pixel_std,
        "mae_over_var": mae / pixel_variance,
        "psnr": float(sums.psnr) / n,
        "ssim": float(sums.ssim) / n,
        "active_codes": active,
        "perplexity": [
            float(perplexity(jnp.asarray(counts, jnp.float32))) for counts in sums.code_counts
        ],
        "usage": [
            count / len(counts) for count, counts in zip(active, sums.code_counts, strict=True)
        ],
    }
