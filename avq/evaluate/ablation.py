"""What each level of codes carries: reconstructions with its codes replaced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from avq import cpu
from avq.evaluate.metrics.psnr import psnr
from avq.models.vqvae import VQVAE, Reconstruction
from avq.pixels import to_float, to_uint8

BATCH = 16

Codes = tuple[Int[np.ndarray, "n _h _w"], ...]  # by level, finest first


class Quality(NamedTuple):
    """Quality of reconstructions: psnr in dB, mae of pixels in [-1, 1]; means over images."""

    psnr: Any
    mae: Any


@dataclass(frozen=True)
class Level:
    """Reconstructions with the codes of one level replaced.

    Attributes:
        sent: whether decoding reads the level. Its codes are then replaced at decoding; those of
            another level inside the encoder, before it joins the next finer one.
        shuffled: by the codes of another image at the same place.
        constant: by the level's most used code everywhere.
    """

    sent: bool
    shuffled: Quality
    constant: Quality


@dataclass(frozen=True)
class Ablation:
    """Results of `ablate`.

    Attributes:
        n: number of images.
        unchanged: with all codes as they are.
        levels: finest first.
        codes: of the images.
    """

    n: int
    unchanged: Quality
    levels: tuple[Level, ...]
    codes: Codes


def ablate(
    model: VQVAE,
    variables: Mapping[str, Any],
    inputs: UInt8[np.ndarray, "n h w c"],
    targets: UInt8[np.ndarray, "n h w c"],
) -> Ablation:
    """Measures what reconstructions lose when the codes of a level are replaced.

    Args:
        model, variables: the autoencoder.
        inputs: images, of which those beyond the last whole batch of 16 are left out.
        targets: what reconstructions are compared with.
    """
    size = min(BATCH, len(inputs))
    pairs = tuple(images[: len(images) // size * size] for images in (inputs, targets))
    unchanged, codes = _measure(_measured(model.apply), variables, size, *pairs)
    levels = []
    for index, grids in enumerate(codes):
        others = np.roll(grids, len(grids) // 2, axis=0)
        most_used = np.full_like(grids, np.argmax(np.bincount(grids.ravel())))
        measured = _measured(partial(with_codes, model, index))
        qualities = [
            _measure(measured, variables, size, *pairs, new)[0] for new in (others, most_used)
        ]
        levels.append(Level(index < model.decoded_levels(), *qualities))
    return Ablation(len(pairs[0]), unchanged, tuple(levels), codes)


def _measured(reconstruct: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles `reconstruct(variables, inputs, *rest)` to psnr and mae of each image, and codes."""

    def function(
        variables: Any,
        inputs: UInt8[Array, "b h w c"],
        originals: UInt8[Array, "b h w c"],
        *rest: Any,
    ) -> Any:
        out = reconstruct(variables, to_float(inputs), *rest)
        made, targets = to_float(to_uint8(out.images)), to_float(originals)
        quality = Quality(psnr(made, targets), jnp.mean(jnp.abs(made - targets), axis=(1, 2, 3)))
        return quality, tuple(level.codes for level in out.levels)

    return jax.jit(function, compiler_options=cpu.compiler_options("inference"))


def _measure(
    function: Callable[..., Any], variables: Any, size: int, *arrays: Any
) -> tuple[Quality, Codes]:
    """Mean quality and all codes of a function of `_measured`, in batches of `size` rows."""
    parts = []
    for start in range(0, len(arrays[0]), size):
        batch = (array[start : start + size] for array in arrays)
        parts.append(jax.device_get(function(variables, *batch)))
    quality, codes = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    return Quality(*(float(numbers.mean()) for numbers in quality)), codes


def with_codes(
    model: VQVAE,
    index: int,
    variables: Mapping[str, Any],
    images: Float[Array, "b h w c"],
    codes: Int[Array, "b _h _w"],
) -> Reconstruction:
    """Reconstructs images with the codes of one level replaced.

    Args:
        model, variables: the autoencoder.
        index: of the level, 0 for the finest. One that decoding reads is replaced at decoding;
            another one inside the encoder, so that finer levels are encoded beside it.
        images: in [-1, 1].
        codes: new ones.
    """
    module: Any = model
    if index < model.decoded_levels():
        out: Reconstruction = module.apply(variables, images)
        grids = [level.codes for level in out.levels[: model.decoded_levels()]]
        grids[index] = codes
        return replace(out, images=module.apply(variables, grids, method=VQVAE.decode))

    path = ("encoder", f"quantizers_{index}")

    def quantise(function: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        result = function(*args, **kwargs)
        if context.module.path != path or context.method_name != "__call__":
            return result
        return replace(result, codes=codes, vectors=context.module.lookup(codes))

    with nn.intercept_methods(quantise):
        inner: Reconstruction = module.apply(variables, images)
    return inner
