"""From code vectors to an image."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.models.blocks import Id, Up, UpConv, block, conv


class Decoder(nn.Module):
    """Stem, then a stage for each doubling of the side, then a 1x1 convolution to linear RGB
    values.

    Attributes:
        filters: of the stem, then of each doubling.
        inputs: 'finest' decodes the finest level alone (Figure 2: coarser codes act through it);
            'all' also joins the coarser levels, each brought to the finest grid by transposed
            convolutions.
        blocks: identity blocks a stage.
        remat: whether the backward pass computes the inside of blocks again, see `block`.
    """

    filters: Sequence[int]
    inputs: Literal["finest", "all"] = "finest"
    blocks: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, levels: Sequence[Float[Array, "b _h _w d"]], train: bool
    ) -> Float[Array, "b H W 3"]:
        """Decodes code vectors, finest level first. The image is meant to lie in [-1, 1] but is not
        clipped; float32.
        """
        if self.inputs not in ("finest", "all"):
            raise ValueError(f"decoder inputs {self.inputs!r} is not one of finest, all")
        h = levels[0].astype(self.dtype)
        if self.inputs == "all":
            h = jnp.concatenate([h, *self._coarser_levels(levels[1:])], axis=-1)
        h = conv(self.filters[0], dtype=self.dtype, name="stem")(h)
        common = {"dtype": self.dtype, "axis_name": self.axis_name}
        identity, up = block(Id, self.remat), block(Up, self.remat)
        for stage, features in enumerate(self.filters[1:]):
            for index in range(stage * self.blocks, (stage + 1) * self.blocks):
                h = identity(**common, name=f"Id_{index}")(h, train)
            h = up(features, **common, name=f"Up_{stage}")(h, train)
        return conv(3, 1, dtype=self.dtype, name="to_rgb")(h).astype(jnp.float32)

    def _coarser_levels(self, levels: Sequence[Array]) -> list[Array]:
        grids = []
        for index, h in enumerate(levels, start=1):
            for doubling in range(index):
                h = UpConv(h.shape[-1], self.dtype, name=f"resize{index + 1}_{doubling + 1}")(h)
            grids.append(h)
        return grids
