"""Finite scalar quantisation: every channel is rounded to one of a few values; there is no table.

Source: Mentzer et al. (2023), "Finite scalar quantization: VQ-VAE made simple", section 3.1.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from avq.errors import InputError
from avq.models.quantizers.base import (
    CodebookStatistics,
    Quantized,
    Quantizer,
    straight_through,
)
from avq.settings import setting

MOST = 2**24  # codes
EDGE = 1e-3  # share by which the outermost values lie within reach of tanh


class FSQQuantizer(Quantizer):
    """Rounds each channel to one of `fsq_levels` evenly spaced values in about [-1, 1]. A code
    numbers the combinations, the first channel's value running fastest.

    Raises:
        InputError: for more than 2**24 combinations.
    """

    fsq_levels: Sequence[int] = setting(
        (8, 6, 5), "fsq: values of each channel; their product is the codebook's size", low=2
    )

    def __post_init__(self) -> None:
        if math.prod(self.fsq_levels) > MOST:
            raise InputError(
                f"model.fsq_levels={tuple(self.fsq_levels)} has {math.prod(self.fsq_levels):,} "
                f"combinations, more than {MOST:,}. Give fewer or smaller entries."
            )
        super().__post_init__()

    @property
    def codebook_size(self) -> int:
        """Number of combinations of values."""
        return math.prod(self.fsq_levels)

    @property
    def code_dim(self) -> int:
        """Number of channels."""
        return len(self.fsq_levels)

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        return self.lookup(jnp.arange(self.codebook_size))

    def lookup(self, codes: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """Vectors of codes."""
        levels = self._of_channels(self.fsq_levels, codes.ndim + 1)
        steps = codes[..., None] // self._place_values(codes.ndim + 1) % levels
        half = levels // 2
        return (steps - half).astype(jnp.float32) / half.astype(jnp.float32)

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32, without a loss."""
        bounded = self._bounded(z.astype(jnp.float32))
        half = self._of_channels(self.fsq_levels, z.ndim) // 2
        steps = jnp.round(bounded).astype(jnp.int32) + half
        codes = jnp.sum(steps * self._place_values(z.ndim), axis=-1)
        vectors, latents = self.lookup(codes), bounded / half.astype(jnp.float32)
        if train:
            vectors = straight_through(latents, vectors)
        statistics = CodebookStatistics(self.count_codes(codes, train))
        return Quantized(vectors, codes, jnp.zeros(()), statistics, latents)

    def _bounded(self, z: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Latents squeezed into the reach of each channel's values, one apart around 0; even
        numbers of values are shifted by a half, so that they are as many.
        """
        levels = np.array(self.fsq_levels)
        offset = np.where(levels % 2 == 0, 0.5, 0.0)
        reach = (levels - 1) * (1 + EDGE) / 2
        shift = np.arctanh(offset / reach)
        wide = [self._of_channels(v, z.ndim, jnp.float32) for v in (shift, reach, offset)]
        return jnp.tanh(z + wide[0]) * wide[1] - wide[2]

    def _place_values(self, ndim: int) -> Int[Array, "... d"]:
        return self._of_channels(np.cumprod([1, *self.fsq_levels[:-1]]), ndim)

    def _of_channels(self, values: Any, ndim: int, dtype: Any = jnp.int32) -> Array:
        """Values of the channels as an array of so many axes, the last of which is theirs."""
        return jnp.asarray(values, dtype).reshape((1,) * (ndim - 1) + (-1,))
