"""Convolutions, written so that XLA computes them fast.

docs/PERFORMANCE.md has the figures.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

glorot = nn.initializers.glorot_uniform()

Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


def interpolating(
    key: Array, shape: tuple[int, int, int, int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "3 3 c f"]:
    """Initial kernel of `UpConv`: linear interpolation, then a Glorot-uniform 1x1 convolution.

    Independent taps would give the four pixels that one becomes different weights, and flat areas a
    pattern of dots that training has to remove first.
    """
    taps = jnp.array([0.5, 1.0, 0.5], dtype)
    return jnp.outer(taps, taps)[..., None, None] * glorot(key, (1, 1, *shape[2:]), dtype)


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
    y = unit_stride_conv(x, small, ((1, 0), (1, 0)))
    return y.reshape(b, h, w, 2, 2, f).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, f)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def unit_stride_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "_ _ c f"], padding: Padding
) -> Float[Array, "b H W f"]:
    """Convolution of stride 1.

    The gradient of its input is written as a convolution of its own, with the kernel turned round.
    As autodiff has it, XLA turns the window in place of the kernel, does not find such a
    convolution among those that oneDNN computes in bfloat16, and computes it in float32.

    Args:
        x: features.
        kernel: filters.
        padding: rows before and after, columns before and after; less than the kernel's side.
    """
    return _convolved(x, kernel, padding)


def _convolved(x: Array, kernel: Array, padding: Padding) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    y: Array = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=layout)
    return y


def _forward(x: Array, kernel: Array, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return unit_stride_conv(x, kernel, padding), (x, kernel)


def _backward(
    padding: Padding, inputs: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = inputs
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    height, width = (
        (side - 1 - before, side - 1 - after)
        for side, (before, after) in zip(kernel.shape, padding, strict=False)
    )
    _, of_kernel = jax.vjp(lambda kernel: _convolved(x, kernel, padding), kernel)
    return unit_stride_conv(gradient, turned, (height, width)), *of_kernel(gradient)


unit_stride_conv.defvjp(_forward, _backward)


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


def same(
    x: Float[Array, "b h w c"], kernel: Float[Array, "_ _ c f"], *unused: Any, **also_unused: Any
) -> Float[Array, "b h w f"]:
    """`unit_stride_conv` with SAME padding, in place of `lax.conv_general_dilated`."""
    rows, columns = (((side - 1) // 2, side // 2) for side in kernel.shape[:2])
    return unit_stride_conv(x, kernel, (rows, columns))


def conv(
    features: int,
    size: int = 3,
    stride: int = 1,
    dtype: DTypeLike = jnp.float32,
    kernel_init: Callable[..., Array] = glorot,
    **fields: Any,
) -> nn.Conv:
    """Square convolution with the paper's padding (SAME), Glorot-uniform kernel and zero bias."""
    computed = pointwise if size == 1 else same if stride == 1 else None
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=computed,
        **fields,
    )
