"""Residual blocks in the order of ResNetV2: norm, LeakyReLU, convolution.

Source: section 3.3 of Rivera and Hoyos (2023), "Id-ResBlock" and "Conv-ResBlock". The inner shape
of a block (two 3x3 convolutions and a 1x1) is the first author's own; the parameter counts of the
paper's Table 2 follow from it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from avq.models.norm import NormKind, NormLeaky, RMSNormLeaky

M = TypeVar("M", bound=nn.Module)

glorot = nn.initializers.glorot_uniform()


def interpolating(
    key: Array, shape: tuple[int, int, int, int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "3 3 c f"]:
    """Initial kernel of `UpConv`: linear interpolation, then a Glorot-uniform 1x1 convolution.

    Independent taps would give the four pixels that one becomes different weights, and flat areas a
    pattern of dots that training has to remove first.
    """
    taps = jnp.array([0.5, 1.0, 0.5], dtype)
    return jnp.outer(taps, taps)[..., None, None] * glorot(key, (1, 1, *shape[2:]), dtype)


def nearest2x(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Doubles the side of an image by repeating every pixel."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsampling_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "b 2*h 2*w f"]:
    """Transposed 3x3 convolution of stride 2 with SAME padding, as a convolution on the small grid.

    Along one axis the transposed convolution is `y[2i] = k0 x[i-1] + k2 x[i]` and `y[2i+1] = k1
    x[i]`: the taps of the even and of the odd outputs form a 2x2 kernel with four times the
    filters, whose results are interleaved. Equal to `flax.linen.ConvTranspose`, but its weight
    gradient is a plain convolution, which XLA runs many times faster on a CPU.

    Args:
        x: features.
        kernel: taps in the layout of `flax.linen.ConvTranspose`.
    """
    b, h, w, _ = x.shape
    f = kernel.shape[-1]
    odd = jnp.zeros_like(kernel[0]), kernel[1]
    rows = jnp.stack([jnp.stack([kernel[0], kernel[2]]), jnp.stack(odd)])  # phase, tap, column
    odd_columns = jnp.stack([jnp.zeros_like(rows[:, :, 0]), rows[:, :, 1]])
    taps = jnp.stack([jnp.stack([rows[:, :, 0], rows[:, :, 2]]), odd_columns])
    # taps: column phase, column tap, row phase, row tap, c, f -> a 2x2 kernel of (row phase, column
    # phase, f) filters
    small = taps.transpose(3, 1, 4, 2, 0, 5).reshape(2, 2, -1, 4 * f)
    y = jax.lax.conv_general_dilated(
        x, small, (1, 1), ((1, 0), (1, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.reshape(b, h, w, 2, 2, f).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, f)


class UpConv(nn.Module):
    """Transposed 3x3 convolution of stride 2, with a bias: `[b, h, w, c]` to `[b, 2h, 2w,
    features]`.

    Parameters have the names and shapes of `flax.linen.ConvTranspose`; see `upsampling_conv` for
    how it is computed.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        kernel = self.param("kernel", interpolating, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        return upsampling_conv(x, kernel) + bias[None, None, None]


def pointwise(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "1 1 c f"],
    strides: Sequence[int],
    *unused: Any,
    **also_unused: Any,
) -> Float[Array, "b H W f"]:
    """1x1 convolution as a matrix product, in place of `lax.conv_general_dilated`.

    The weight gradient is a product then, too, where XLA on a CPU would transpose the features and
    run a convolution whose window is the whole image.
    """
    x = x[:, :: strides[0], :: strides[1]]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)


def conv(
    features: int,
    size: int = 3,
    stride: int = 1,
    dtype: DTypeLike = jnp.float32,
    kernel_init: Callable[..., Array] = glorot,
    **fields: Any,
) -> nn.Conv:
    """Square convolution with the paper's padding (SAME), Glorot-uniform kernel and zero bias."""
    computed = pointwise if size == 1 else None
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=computed,
        **fields,
    )


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
