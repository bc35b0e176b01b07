"""Images, codes and constants that tests of metrics share."""

import jax
import numpy as np

from avq.evaluate.metrics import About

SIZES = (6, 4)
ABOUT = About(
    image_size=16,
    pixel_std=0.5,
    pixel_variance=0.25,
    codebook_sizes=SIZES,
    bits_per_pixel=1.5,
    decoded_levels=1,
    codebooks=tuple(np.random.default_rng(9).normal(size=(k, 3)) for k in SIZES),
)


def pictures(n: int, seed: int = 0, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Images in [-1, 1] and noisy copies of them, the error of each another one."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (n, 4, 5, 3))
    targets = np.repeat(np.repeat(coarse, 4, 1), 4, 2)
    scale = noise * rng.uniform(0.2, 1, (n, 1, 1, 1))
    images = np.clip(targets + rng.normal(0, scale, targets.shape), -1, 1)
    return images.astype(np.float32), targets.astype(np.float32)


def grids(n, seed=0, low=0, high=4):
    """Codes of two levels, each grid with its own side."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(low, high, (n, side, side)).astype(np.int32) for side in (4, 2))


def sums(metric, images, targets, codes=None, mask=None):
    """Sums of a batch, compiled; of all rows where there is no mask."""
    codes = grids(len(images)) if codes is None else codes
    mask = np.ones(len(images), bool) if mask is None else mask
    batch = jax.jit(metric.batch, static_argnames="about")
    return jax.device_get(batch(images, targets, codes, mask, about=ABOUT))
