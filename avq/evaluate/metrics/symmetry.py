"""Left/right symmetry, and the colours of a face's eyes."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from avq.evaluate.metrics.base import ImageMean

EYE = 0.025  # standard deviation of the window over an eye, as a share of the image's side


class Symmetry(ImageMean):
    """Error of the difference between left and right: the mean over pixels of
    `|(image - mirrored image) - (target - mirrored target)|`.

    It counts asymmetry that the reconstruction adds and asymmetry that it loses, and nothing of an
    error that is the same on both sides. A perfect copy has 0. With errors that know nothing of
    the other side it is about 1.4 times the mean absolute error, so what a model does for symmetry
    shows in the ratio of the two.
    """

    meaning: Mapping[str, str] = {
        "symmetry": "mean absolute error of the difference between left and right, pixels in "
        "[-1, 1]; 0 for a perfect copy"
    }

    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        error = images - targets
        return jnp.mean(jnp.abs(error - error[:, :, ::-1]), axis=(1, 2, 3))


class Eyes(NamedTuple):
    """Centres of the eyes in a centre square, (x, y) as shares of its side."""

    left: tuple[float, float]
    right: tuple[float, float]


# By the name of an alignment.
ALIGNED = {
    # 178x218 pixels, eyes at (69, 111) and (108, 111); the centre square begins at row 20.
    "celeba": Eyes((69.5 / 178, 91.5 / 178), (108.5 / 178, 91.5 / 178)),
    # CelebA-HQ's square images, as measured on their mean.
    "celeba_hq": Eyes((0.374, 0.475), (0.626, 0.475)),
}


class EyeColour(ImageMean):
    """Error of the difference between the colours of a face's two eyes: the mean over channels of
    its absolute value. The colour of an eye is the mean under a Gaussian window.

    Args:
        eyes: their places, the same in all images.
    """

    meaning: Mapping[str, str] = {
        "eye_colour": "mean absolute error of the difference between the colours of left and right "
        "eye, pixels in [-1, 1]"
    }

    def __init__(self, eyes: Eyes) -> None:
        self.eyes = eyes

    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        error = images - targets
        left, right = (_window(place, *error.shape[1:3]) for place in self.eyes)
        difference = jnp.einsum("hw,bhwc->bc", left - right, error)
        return jnp.mean(jnp.abs(difference), axis=1)


def _window(place: tuple[float, float], height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Gaussian weights about a place, of sum 1."""
    x = (np.arange(width) + 0.5) / width - place[0]
    y = (np.arange(height)[:, None] + 0.5) / height - place[1]
    bell = np.exp(-(x**2 + y**2) / (2 * EYE**2))
    weights: Float[np.ndarray, "h w"] = (bell / bell.sum()).astype(np.float32)
    return weights
