"""A trained model in a few words: images to codes and back."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from avq import cpu
from avq.errors import InputError
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8
from avq.settings import settings_of
from avq.trained import TrainedModel, load_model

log = logging.getLogger(__name__)


def load(run: str | Path, step: int | None = None, dtype: str | None = None) -> "Tokenizer":
    """The model of a training run, from its newest checkpoint or that of `step`.

    Args:
        run: its folder.
        step: of a checkpoint.
        dtype: compute type of convolutions and attention, 'float32' or 'bfloat16'; None for that of
            training. Another one changes the codes of some places.

    Raises:
        InputError: when the folder holds no run, or no such checkpoint, and for another dtype.

    Example:
        model = avq.load("runs/ah")
        codes = model.encode(images)
        images = model.decode(codes)
    """
    trained = load_model(run, step)
    if dtype is not None:
        if problem := settings_of(VQVAE)["dtype"].error(dtype):
            raise InputError(f"dtype={dtype!r} {problem}.")
        trained.model = trained.model.clone(dtype=dtype)
    return Tokenizer(trained)


class Tokenizer:
    """Encodes images into grids of codes, and decodes them.

    Attributes:
        trained: the restored run.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self._warned = False
        model: Any = trained.model
        compiled = partial(jax.jit, compiler_options=cpu.compiler_options("inference"))
        self._encode: Callable[[Any, Array], tuple[Array, ...]] = compiled(
            lambda v, x: model.apply(v, x, method=VQVAE.encode)
        )
        self._decode: Callable[[Any, tuple[Array, ...]], Array] = compiled(
            lambda v, c: to_uint8(model.apply(v, c, method=VQVAE.decode))
        )

    def encode(self, images: Any) -> tuple[Int[Array, "b _h _w"], ...]:
        """Codes of images, finest level first, of the levels that decoding reads.

        Args:
            images: `[b, h, w, 3]`, 0..255 as uint8 or [-1, 1] as floats; h and w multiples of the
                model's stride. One `[h, w, 3]`, or a PIL image, is a batch of one. Floats that
                are all in [0, 1] are taken as they are, with a warning, once.

        Raises:
            InputError: for another type, shape or range.
        """
        images = images if isinstance(images, jax.Array) else np.asarray(images)
        images = images[None] if images.ndim == 3 else images
        _require_pictures(images, self.trained.model.stride())
        if images.dtype != np.uint8:
            self._require_range(images)
            images = jnp.asarray(images, jnp.float32)
        else:
            images = to_float(jnp.asarray(images))
        codes: tuple[Array, ...] = _applied(self._encode, self.trained.variables, images)
        return codes

    def _require_range(self, images: Any) -> None:
        """Refuses floats that are not in [-1, 1]; warns, once, where none is negative."""
        if not images.size:
            return
        low, high = float(images.min()), float(images.max())
        if not (low >= -1 and high <= 1):  # also where they are NaN
            raise InputError(
                f"images are floats from {low:g} to {high:g}; give floats in [-1, 1], or uint8."
            )
        if low >= 0 and not self._warned:
            self._warned = True
            log.warning(
                "images are floats from %g to %g: 0 counts as grey and -1 as black. If theirs are "
                "in [0, 1], give 2 * images - 1.",
                low,
                high,
            )

    def decode(self, codes: Sequence[Any]) -> UInt8[Array, "b h w 3"]:
        """Images, 0..255, from the codes of `encode`: grids `[b, h, w]`, finest level first.

        Raises:
            InputError: for the wrong number of levels, grids that do not fit together, or codes
                that the codebook does not have.
        """
        model = self.trained.model
        grids = [np.asarray(grid) for grid in codes]
        read = model.decoded_levels()
        if len(grids) != read:
            raise InputError(f"{len(grids)} grids of codes given; this model decodes {read}.")
        if grids[0].ndim != 3 or not all(np.issubdtype(g.dtype, np.integer) for g in grids):
            raise InputError("codes are not grids [b, h, w] of integers.")
        sizes = model.codebook_sizes()[:read]
        for level, (grid, size) in enumerate(zip(grids, sizes, strict=True), start=1):
            expected = (grids[0].shape[0], *(side >> level - 1 for side in grids[0].shape[1:]))
            if grid.shape != expected:
                raise InputError(f"codes of level {level} are {grid.shape}, not {expected}.")
            if grid.size and not (grid.min() >= 0 and grid.max() < size):
                raise InputError(f"codes of level {level} are not all in 0..{size - 1}.")
        batch = tuple(jnp.asarray(grid, jnp.int32) for grid in grids)
        images: Array = _applied(self._decode, self.trained.variables, batch)
        return images

    def reconstruct(self, images: Any) -> UInt8[Array, "b h w 3"]:
        """`decode(encode(images))`."""
        return self.decode(self.encode(images))


def _applied(function: Callable[[Any, Any], Any], variables: Any, batch: Any) -> Any:
    """Result of a function for a batch, also for one without rows, which modules do not take."""
    if len(jax.tree.leaves(batch)[0]):
        return function(variables, batch)
    blank = jax.tree.map(lambda rows: jnp.zeros((1, *rows.shape[1:]), rows.dtype), batch)
    return jax.tree.map(lambda rows: rows[:0], function(variables, blank))


def _require_pictures(images: Any, stride: int) -> None:
    """Refuses arrays that are no batch of RGB images of a size that the model takes."""
    shape = tuple(images.shape)
    wanted = f"give [b, h, w, 3] with h and w multiples of {stride}."
    if len(shape) == 4 and shape[3] != 3:
        kinds = {1: "grey", 4: "RGBA"}
        kind = "channels first" if shape[1] in (1, 3, 4) else kinds.get(shape[3], "no RGB images")
        raise InputError(f"images are {shape}, {kind}; {wanted}")
    if len(shape) != 4 or any(side % stride or not side for side in shape[1:3]):
        grey = ", grey" if len(shape) == 2 else ""
        raise InputError(f"images are {shape}{grey}; {wanted}")
    if images.dtype != np.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"images are {images.dtype}; give uint8, or floats in [-1, 1].")
