"""Residual pixel attention: adds to every pixel a weighted sum over the pixels.

Source: section 3.2 of Rivera and Hoyos (2023), Algorithm 1 and equations 2 and 3.
"""

import math
from typing import Literal, assert_never

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from avq.models.convolutions import conv

Norm = Literal["paper", "mean", "bias", "bias_clip"]
Form = Literal["algorithm1", "equation3"]

# Elements of W over the whole batch, since that fills memory: up to DENSE (256 MB of float32) it is
# computed at once, beyond it in blocks of about BLOCK (16 MB).
DENSE, BLOCK = 2**26, 2**22


def attention_weights(
    queries: Float[Array, "b n c"], keys: Float[Array, "b m c"], norm: Norm
) -> Float[Array, "b n m"]:
    """Attention matrix W of equation 2, in float32.

    With logits `l = queries keys^T`, width `c` and `m` keys:

    - 'paper': `sigmoid(l)`, as printed. Its rows sum to hundreds, so the sum swamps the input.
    - 'mean': `sigmoid(l / sqrt(c)) / m`; a row sums to at most 1.
    - 'bias': `sigmoid(l / sqrt(c) - log m)`; about 1 a row at start, unbounded later.
    - 'bias_clip': 'bias', rows divided by `max(1, row sum)`: a row sums to at most 1, can fall to 0
      where nothing is pertinent, and can rest on few pixels.
    """
    logits = jnp.einsum("bnc,bmc->bnm", queries, keys, preferred_element_type=jnp.float32)
    c, m = queries.shape[-1], keys.shape[1]
    if norm == "paper":
        return jax.nn.sigmoid(logits)
    if norm == "mean":
        return jax.nn.sigmoid(logits / math.sqrt(c)) / m
    if norm == "bias":
        return jax.nn.sigmoid(logits / math.sqrt(c) - math.log(m))
    if norm == "bias_clip":
        weights = jax.nn.sigmoid(logits / math.sqrt(c) - math.log(m))
        return weights / jnp.maximum(1.0, weights.sum(-1, keepdims=True))
    assert_never(norm)


def attend(
    queries: Float[Array, "b n c"],
    keys: Float[Array, "b m c"],
    values: Float[Array, "b m f"],
    norm: Norm,
) -> Float[Array, "b n f"]:
    """`sum_j W_ij values_j` for every query i, with the weights of `attention_weights`.

    A large W is computed for a block of queries at a time, and again in the backward pass, so that
    it is never whole in memory.
    """
    (b, n, c), m = queries.shape, keys.shape[1]
    if b * n * m <= DENSE:
        return _attend_at_once(queries, keys, values, norm)
    # Gradients of keys and values are sums over the blocks: float32, whatever the compute type.
    wide = keys.astype(jnp.float32), values.astype(jnp.float32)

    @jax.checkpoint
    def of_block(queries: Float[Array, "b s c"]) -> Float[Array, "b s f"]:
        narrow = wide[0].astype(keys.dtype), wide[1].astype(values.dtype)
        return _attend_at_once(queries, *narrow, norm)

    size = math.ceil(n / min(n, math.ceil(b * n * m / BLOCK)))
    padded = jnp.pad(queries, ((0, 0), (0, -n % size), (0, 0)))
    blocks = padded.reshape(b, -1, size, c).swapaxes(0, 1)
    updates: Array = jax.lax.map(of_block, blocks)
    return updates.swapaxes(0, 1).reshape(b, -1, values.shape[-1])[:, :n]


def _attend_at_once(
    queries: Float[Array, "b n c"],
    keys: Float[Array, "b m c"],
    values: Float[Array, "b m f"],
    norm: Norm,
) -> Float[Array, "b n f"]:
    weights = attention_weights(queries, keys, norm).astype(values.dtype)
    return jnp.einsum("bnm,bmf->bnf", weights, values)


class PixelAttention(nn.Module):
    """`x_i + sum_j W_ij y_j`: self-attention when `y` is `x` (or None), cross-attention otherwise.

    The printed line 7 of Algorithm 1 sums over the other index, which would only rescale each
    `y_j`; the sum over j is the one of equation 3.

    Attributes:
        dim: width c of the two projections g1 and g2.
        form: 'algorithm1' adds `W g2(y)` to `g1(x)` and returns `dim` channels; 'equation3' adds `W
            y` to `x` itself, so that x and y must have the same channels, which it keeps.
        norm: see `attention_weights`.
        dtype: compute type; logits and their normalisation are float32 in any case.
    """

    dim: int
    form: Form = "algorithm1"
    norm: Norm = "bias_clip"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w f"], y: Float[Array, "b H W g"] | None = None
    ) -> Float[Array, "b h w c"]:
        y = x if y is None else y
        queries = conv(self.dim, 1, dtype=self.dtype, name="g1")(x)
        keys = conv(self.dim, 1, dtype=self.dtype, name="g2")(y)
        if self.form == "algorithm1":
            base, values = queries, keys
        elif self.form == "equation3":
            base, values = x.astype(self.dtype), y.astype(self.dtype)
        else:
            assert_never(self.form)
        update = attend(_tokens(queries), _tokens(keys), _tokens(values), self.norm)
        return base + update.reshape(base.shape)


def _tokens(x: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
    return x.reshape(x.shape[0], -1, x.shape[-1])
