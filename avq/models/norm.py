"""Norms followed by LeakyReLU: batch norm, as one function with a hand-written gradient, and RMS
norm.

Sources: Ioffe and Szegedy (2015), algorithm 1 and section 3, with statistics of the global batch;
Zhang and Sennrich (2019), equation 4.
"""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

LEAK = 0.1
EPSILON, MOMENTUM = 1e-3, 0.99

NormKind = Literal["batch", "rms"]

Moments = tuple[Float[Array, " c"], Float[Array, " c"]]


class NormLeaky(nn.Module):
    """Batch norm and LeakyReLU(0.1): `[b, h, w, c]` to the same.

    Parameters, running statistics, values and gradients are those of `flax.linen.BatchNorm`
    followed by a leaky ReLU, but for rounding.

    Attributes:
        dtype: type of the result; parameters, statistics and computation are float32.
        axis_name: mapped axis over which batch statistics are averaged in training.
    """

    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if not train:
            moments = mean.value, variance.value
            return _norm_leaky_by(moments, x, scale, bias).astype(self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, moments = norm_leaky(x, scale, bias, mean.value, self.dtype, axis_name)
        if not self.is_initializing():
            for running, batch in zip((mean, variance), moments, strict=True):
                running.value = MOMENTUM * running.value + (1 - MOMENTUM) * batch
        return y


class RMSNormLeaky(nn.Module):
    """RMS norm over the channels of each pixel, a scale and a bias, and LeakyReLU(0.1): `[b, h, w,
    c]` to the same. Neither the batch nor other pixels have a part in it.

    Attributes:
        dtype: type of the result; parameters and computation are float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        x = x.astype(jnp.float32)
        x = x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
        y = x * _wide(scale) + _wide(bias)
        return jnp.where(y >= 0, y, LEAK * y).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def norm_leaky(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    origin: Float[Array, " c"],
    dtype: DTypeLike = jnp.float32,
    axis_name: str | None = None,
) -> tuple[Float[Array, "b h w c"], Moments]:
    """LeakyReLU of `x` normalised by its mean and variance over all but the last axis.

    The gradient reads memory less often than that of autodiff, and keeps only `x` and the result.

    Args:
        x: features, float32 or bfloat16.
        scale, bias: applied after the norm.
        origin: near the mean, such as the running mean. Sums of squares are of `x - origin`, or
            they would lose the variance's digits where the mean is large. No gradient passes.
        dtype: type of the result.
        axis_name: mapped axis over which the batch is split in parts of the same size.

    Returns:
        The result, and the mean and variance, through which no gradient passes.
    """
    (y, moments), _ = _forward(x, scale, bias, origin, dtype, axis_name)
    return y, moments


def _forward(
    x: Array, scale: Array, bias: Array, origin: Array, dtype: DTypeLike, axis_name: str | None
) -> Any:
    near = x.astype(jnp.float32) - _wide(origin)
    mean, square = _mean(jnp.stack([_sums(near), _sums(near * near)]), x, axis_name)
    moments = mean + origin, jnp.maximum(square - mean * mean, 0.0)
    y = _norm_leaky_by(moments, x, scale, bias).astype(dtype)
    return (y, moments), (x, y, moments, scale, origin)


def _backward(dtype: DTypeLike, axis_name: str | None, kept: Any, cotangents: Any) -> Any:
    x, y, (mean, variance), scale, origin = kept
    d_y, wide = (a.astype(jnp.float32) for a in (cotangents[0], x))
    d_normed = jnp.where(y >= 0, d_y, LEAK * d_y)
    d_bias = _sums(d_normed)
    # The sum of d_normed * (x - mean), without the difference in memory.
    d_centred = _sums(d_normed * (wide - _wide(origin))) - (mean - origin) * d_bias
    inverse = lax.rsqrt(variance + EPSILON)
    constant, slope = _mean(jnp.stack([d_bias, d_centred * inverse * inverse]), x, axis_name)
    d_x = d_normed - _wide(constant) - (wide - _wide(mean)) * _wide(slope)
    d_x = (d_x * _wide(inverse * scale)).astype(x.dtype)
    return d_x, d_centred * inverse, d_bias, jnp.zeros_like(origin)


norm_leaky.defvjp(_forward, _backward)


def _norm_leaky_by(moments: Moments, x: Array, scale: Array, bias: Array) -> Array:
    mean, variance = moments
    factor = lax.rsqrt(variance + EPSILON) * scale
    y = (x.astype(jnp.float32) - _wide(mean)) * _wide(factor) + _wide(bias)
    return jnp.where(y >= 0, y, LEAK * y)


def _sums(x: Array) -> Array:
    return jnp.sum(x, range(x.ndim - 1))


def _mean(sums: Array, x: Array, axis_name: str | None) -> Array:
    mean = sums / (x.size // x.shape[-1])
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def _wide(channels: Float[Array, " c"]) -> Float[Array, "1 1 1 c"]:
    return channels[None, None, None]
