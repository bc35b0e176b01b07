"""Perceptual loss: LPIPS of a network whose weights are fixed.

Source: Zhang et al. (2018), "The unreasonable effectiveness of deep features as a perceptual
metric"; the network is the one of `avq eval --lpips`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.errors import InputError
from avq.models.vqvae import Reconstruction
from avq.networks.lpips import LPIPS, NETWORKS, SMALLEST, kind_of, lpips_variables
from avq.networks.weights import Variables, read_weights
from avq.pixels import as_channels


def lpips(
    outputs: Reconstruction, targets: Float[Array, "b h w c"], frozen: Mapping[str, Any]
) -> Float[Array, ""]:
    """Mean LPIPS distance of reconstructions from their targets, both as RGB.

    Args:
        outputs: of the autoencoder for `targets`.
        targets: images in [-1, 1].
        frozen: with 'lpips', variables of the network.
    """
    variables = frozen["lpips"]
    network = LPIPS(kind_of(variables))
    pair = (as_channels(each, 3) for each in (outputs.images.astype(jnp.float32), targets))
    distances: Any = network.apply(variables, *pair)
    return jnp.mean(distances)


def read_lpips(files: str, image_size: int) -> Variables:
    """Variables of the network from `loss.lpips_weights`.

    Args:
        files: path, or paths joined by commas, as the files of `avq eval --lpips`.
        image_size: side of the images, pixels.

    Raises:
        InputError: without files, for files that hold something else, and for too small images.
    """
    if not files:
        raise InputError(
            "loss.terms.lpips needs --config.loss.lpips_weights=FILE; docs/METRICS.md says which "
            "files fit."
        )
    kind, variables = lpips_variables(read_weights(*map(Path, files.split(","))))
    if image_size < SMALLEST[kind]:
        raise InputError(
            f"loss.terms.lpips: {NETWORKS[kind]} needs images of {SMALLEST[kind]} pixels, "
            f"data.image_size is {image_size}. Give other weights, or larger images."
        )
    return variables
