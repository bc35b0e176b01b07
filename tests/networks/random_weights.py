"""Random weights by a rule that PyTorch's side of a comparison follows, too."""

import zlib

import numpy as np


def random_tensor(name, shape):
    """A tensor that depends on its name and shape alone: positive where a network needs it,
    features of about the same size in every layer.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "bn.weight")):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.startswith("lin"):  # heads of LPIPS are not negative
        values = rng.uniform(0, 1, shape)
    elif len(shape) > 1:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    else:
        values = rng.normal(0, 0.1, shape)
    return values.astype(np.float32)


def random_images(n, height, width, seed=0):
    """Smooth pictures with noise, 0..255."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (n, -(-height // 8), -(-width // 8), 3))
    smooth = np.repeat(np.repeat(coarse, 8, 1), 8, 2)[:, :height, :width]
    return np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)
