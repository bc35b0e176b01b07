"""PatchGAN discriminator: a real-or-fake logit for every patch of an image."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from avq.models.convolutions import conv
from avq.models.norm import NormLeaky
from avq.settings import setting


class Discriminator(nn.Module):
    """3x3 convolutions, the hidden ones followed by batch norm and LeakyReLU (Table 1 of Rivera and
    Hoyos, 2023).

    There is no norm on the logits: in training mode, with real and generated images in passes of
    their own, it would set the mean logit of both to zero and leave nothing to tell them apart by.

    Attributes:
        dtype: compute type; parameters, batch statistics and logits are float32.
        axis_name: mapped axis over which batch statistics are averaged in training.
    """

    filters: Sequence[int] = setting(
        (128, 128, 128, 64, 64, 1),
        "filters of the convolutions, the last 1: the logit",
        low=1,
        high=2**16,
    )
    strides: Sequence[int] = setting(
        (2, 2, 2, 1, 1, 1), "strides of the convolutions", low=1, high=8
    )
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b H W 1"]:
        """Logits (float32; positive means real) of the patches of images in [-1, 1]. Features of
        the hidden layers are put into the collection 'intermediates' where it is mutable.

        Raises:
            ValueError: unless there are as many strides as filters.
        """
        last = len(self.filters) - 1
        for i, (features, stride) in enumerate(zip(self.filters, self.strides, strict=True)):
            x = conv(features, 3, stride, self.dtype, name=f"conv{i + 1}")(x)
            if i < last:
                x = NormLeaky(self.dtype, self.axis_name, name=f"norm{i + 1}")(x, train)
                self.sow("intermediates", "features", x)
        return x.astype(jnp.float32)
