"""Residual blocks in the order of ResNetV2: norm, LeakyReLU, convolution.

Source: section 3.3 of Rivera and Hoyos (2023), "Id-ResBlock" and "Conv-ResBlock". The inner shape
of a block (two 3x3 convolutions and a 1x1) is the first author's own; the parameter counts of the
paper's Table 2 follow from it.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from avq.models.convolutions import UpConv, conv, glorot
from avq.models.norm import NormKind, NormLeaky, RMSNormLeaky

M = TypeVar("M", bound=nn.Module)


def nearest2x(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Doubles the side of an image by repeating every pixel."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


class PreActivation(nn.Module):
    """Norm, LeakyReLU(0.1), convolution.

    Attributes:
        features: filters of the convolution.
        size: side of its kernel.
        stride: of the convolution; -2 doubles the side by a transposed 3x3 convolution.
        dtype: compute type; parameters and batch statistics stay float32.
        axis_name: mapped axis over which batch statistics are averaged in training.
        norm_kind: 'batch', or 'rms' over the channels of each pixel.
        kernel_init: of the convolution; unused by a transposed one.
    """

    features: int
    size: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"
    kernel_init: Callable[..., Array] = glorot

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b H W f"]:
        if self.norm_kind == "batch":
            h = NormLeaky(self.dtype, self.axis_name, name="norm")(x, train)
        else:
            h = RMSNormLeaky(self.dtype, name="norm")(x, train)
        if self.stride == -2:
            return UpConv(self.features, self.dtype, name="conv")(h)
        return conv(
            self.features, self.size, self.stride, self.dtype, self.kernel_init, name="conv"
        )(h)


class Id(nn.Module):
    """Identity residual block: 3x3, 3x3 and 1x1 at the incoming width, added to the input."""

    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        unit = partial(
            PreActivation,
            x.shape[-1],
            dtype=self.dtype,
            axis_name=self.axis_name,
            norm_kind=self.norm_kind,
        )
        h = unit(3, name="first")(x, train)
        h = unit(3, name="second")(h, train)
        h = unit(1, name="last")(h, train)
        return x + h


class Res(nn.Module):
    """Down-sampling residual block: halves the side, with a 1x1 convolution of stride 2 on the
    shortcut.

    Attributes:
        features: output width.
        stride_at: 'last' strides in the closing 1x1 convolution (the paper's parameters and cost),
            'first' in the opening 3x3: the same parameters at about a quarter of the
            multiplications.
    """

    features: int
    stride_at: Literal["first", "last"] = "last"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h/2 w/2 f"]:
        unit = partial(
            PreActivation,
            self.features,
            dtype=self.dtype,
            axis_name=self.axis_name,
            norm_kind=self.norm_kind,
        )
        first, last = (2, 1) if self.stride_at == "first" else (1, 2)
        h = unit(3, first, name="first")(x, train)
        h = unit(3, name="second")(h, train)
        h = unit(1, last, name="last")(h, train)
        return h + unit(1, 2, name="shortcut")(x, train)


class Up(nn.Module):
    """Up-sampling residual block: doubles the side in its first 3x3, with nearest-neighbour
    up-sampling on the shortcut.
    """

    features: int
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b 2*h 2*w f"]:
        unit = partial(
            PreActivation,
            self.features,
            dtype=self.dtype,
            axis_name=self.axis_name,
            norm_kind=self.norm_kind,
        )
        h = unit(3, -2, name="first")(x, train)
        h = unit(3, name="second")(h, train)
        h = unit(1, name="last")(h, train)
        return h + nearest2x(unit(1, name="shortcut")(x, train))


def maybe_remat(kind: type[M], remat: bool) -> type[M]:
    """Class of a block; with `remat` one that keeps only its input for the backward pass and
    recomputes the rest. Instances need an explicit name: the default one differs.
    """
    return nn.remat(kind, static_argnums=(2,)) if remat else kind
