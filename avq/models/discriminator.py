"""PatchGAN: says of every patch of an image whether it looks real."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from avq.models.blocks import conv
from avq.models.norm import NormLeaky


class Discriminator(nn.Module):
    """3x3 convolutions with batch norm and LeakyReLU on the hidden ones (Table 1 of Rivera and
    Hoyos, 2023).

    There is no norm on the logits: in training mode, with real and generated images in passes of
    their own, it would set the mean logit of both to zero and leave nothing to tell them apart by.

    Attributes:
        filters: of the convolutions; the last is the number of logits a patch, 1.
        strides: of the convolutions.
    """

    filters: Sequence[int] = (128, 128, 128, 64, 64, 1)
    strides: Sequence[int] = (2, 2, 2, 1, 1, 1)
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> Float[Array, "b H W 1"]:
        """Logits (float32, positive: real) of the patches of an image in [-1, 1]."""
        last = len(self.filters) - 1
        for i, (features, stride) in enumerate(zip(self.filters, self.strides, strict=True)):
            x = conv(features, 3, stride, self.dtype, name=f"conv{i + 1}")(x)
            if i < last:
                x = NormLeaky(self.dtype, self.axis_name, name=f"norm{i + 1}")(x, train)
        return x.astype(jnp.float32)
