"""A trained model in a few words: images to codes and back."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from avq import cpu
from avq.errors import InputError
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8
from avq.trained import TrainedModel, load_model

Images = UInt8[Any, "b h w 3"] | Float[Any, "b h w 3"]


def load(run: str | Path, step: int | None = None) -> "Tokenizer":
    """The model of a training run, from its newest checkpoint or that of `step`.

    Raises:
        InputError: when the folder holds no run, or no such checkpoint.

    Example:
        model = avq.load("runs/ah")
        codes = model.encode(images)
        images = model.decode(codes)
    """
    return Tokenizer(load_model(run, step))


class Tokenizer:
    """Encodes images into grids of codes, and decodes them.

    Attributes:
        trained: the restored run.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        model: Any = trained.model
        compiled = partial(jax.jit, compiler_options=cpu.compiler_options("inference"))
        self._encode: Callable[[Any, Array], tuple[Array, ...]] = compiled(
            lambda v, x: model.apply(v, x, method=VQVAE.encode)
        )
        self._decode: Callable[[Any, tuple[Array, ...]], Array] = compiled(
            lambda v, c: to_uint8(model.apply(v, c, method=VQVAE.decode))
        )

    def encode(self, images: Any) -> tuple[Int[Array, "b _h _w"], ...]:
        """Codes of images, finest level first.

        Args:
            images: `[b, h, w, 3]`, 0..255 as uint8 or [-1, 1] as floats; h and w multiples of the
                model's stride.

        Raises:
            InputError: for another type or shape.
        """
        images = images if isinstance(images, jax.Array) else np.asarray(images)
        shape, stride = images.shape, self.trained.model.stride()
        if len(shape) != 4 or shape[3] != 3 or any(n % stride or not n for n in shape[1:3]):
            raise InputError(
                f"images are {shape}; give [b, h, w, 3] with h and w multiples of {stride}."
            )
        if images.dtype == np.uint8:
            return self._encode(self.trained.variables, to_float(jnp.asarray(images)))
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(f"images are {images.dtype}; give uint8, or floats in [-1, 1].")
        return self._encode(self.trained.variables, jnp.asarray(images, jnp.float32))

    def decode(self, codes: Sequence[Any]) -> UInt8[Array, "b h w 3"]:
        """Images, 0..255, from the codes of every level, `[b, h, w]` each, finest first.

        Raises:
            InputError: for the wrong number of levels, grids that do not fit together, or codes
                that the codebook does not have.
        """
        model = self.trained.model
        grids = [np.asarray(grid) for grid in codes]
        if len(grids) != model.levels:
            raise InputError(f"{len(grids)} grids of codes given; this model has {model.levels}.")
        if grids[0].ndim != 3 or not all(np.issubdtype(g.dtype, np.integer) for g in grids):
            raise InputError("codes are not grids [b, h, w] of integers.")
        sizes = model.codebook_sizes()
        for level, (grid, size) in enumerate(zip(grids, sizes, strict=True), start=1):
            expected = (grids[0].shape[0], *(side >> level - 1 for side in grids[0].shape[1:]))
            if grid.shape != expected:
                raise InputError(f"codes of level {level} are {grid.shape}, not {expected}.")
            if grid.size and not (grid.min() >= 0 and grid.max() < size):
                raise InputError(f"codes of level {level} are not all in 0..{size - 1}.")
        return self._decode(self.trained.variables, tuple(jnp.asarray(g, jnp.int32) for g in grids))

    def reconstruct(self, images: Any) -> UInt8[Array, "b h w 3"]:
        """`decode(encode(images))`."""
        return self.decode(self.encode(images))
