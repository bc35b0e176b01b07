"""Denoising by a model that was trained on noisy images."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from avq.apply.tokenizer import Tokenizer
from avq.errors import InputError


def denoise(tokenizer: Tokenizer, images: Iterable[Any]) -> Iterator[UInt8[np.ndarray, "_h _w c"]]:
    """Removes noise from images of any sizes, one after another.

    Args:
        tokenizer: of a run with `data.noise`; removes noise like that of its training.
        images: each as `Tokenizer.encode` takes one.

    Raises:
        InputError: for a run without noise, or with a lower resolution.
    """
    degradation = tokenizer.trained.degradation
    if not degradation.noise or degradation.downscale > 1:
        raise InputError(
            f"this run was not trained to remove noise alone (its degradation: {degradation}). "
            "Train one with --config.data.noise=25."
        )
    return tokenizer.reconstruct_each(images)
