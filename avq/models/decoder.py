"""Decoder: code vectors to an image."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from avq.models.blocks import Id, Up, maybe_remat
from avq.models.convolutions import UpConv, conv
from avq.models.norm import NormKind


class Decoder(nn.Module):
    """Stem, a stage for each doubling of the side, and a 1x1 convolution to linear pixel values.

    Attributes:
        filters: filters of the stem, then of each doubling.
        inputs: 'finest' decodes the finest level alone (Figure 2: coarser codes act through it);
            'all' also joins the coarser levels, up-sampled to the finest grid by transposed
            convolutions.
        blocks: identity blocks a stage.
        channels: of the image.
        remat: whether the backward pass recomputes the inside of blocks, see `maybe_remat`.
    """

    filters: Sequence[int]
    inputs: Literal["finest", "all"] = "finest"
    blocks: int = 1
    channels: int = 3
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"
    remat: bool = False

    @nn.compact
    def __call__(
        self, levels: Sequence[Float[Array, "b _h _w d"]], train: bool
    ) -> Float[Array, "b H W c"]:
        """Images (float32, in about [-1, 1], not clipped) from code vectors, finest level first."""
        h = levels[0].astype(self.dtype)
        if self.inputs == "all":
            h = jnp.concatenate([h, *self._coarser_levels(levels[1:])], axis=-1)
        h = conv(self.filters[0], dtype=self.dtype, name="stem")(h)
        common: dict[str, Any] = {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "norm_kind": self.norm_kind,
        }
        identity, up = maybe_remat(Id, self.remat), maybe_remat(Up, self.remat)
        for stage, features in enumerate(self.filters[1:]):
            for index in range(stage * self.blocks, (stage + 1) * self.blocks):
                h = identity(**common, name=f"Id_{index}")(h, train)
            h = up(features, **common, name=f"Up_{stage}")(h, train)
        return conv(self.channels, 1, dtype=self.dtype, name="to_rgb")(h).astype(jnp.float32)

    def _coarser_levels(self, levels: Sequence[Array]) -> list[Array]:
        grids = []
        for index, h in enumerate(levels, start=1):
            for doubling in range(index):
                h = UpConv(h.shape[-1], self.dtype, name=f"resize{index + 1}_{doubling + 1}")(h)
            grids.append(h)
        return grids
