"""Exact search of the nearest code, without a matrix of all tokens by all codes.

Source: equation 1 of Rivera and Hoyos (2023).
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

# Blocks of scores of 4 MB fit a CPU's cache and are still worth a launch on an accelerator; a
# matrix that is no larger than one block is computed at once.
TOKEN_BLOCK, CODE_BLOCK = 2048, 512


def nearest_code(z: Float[Array, "n d"], codebook: Float[Array, "k d"]) -> Int[Array, "n"]:
    """Index of the code at the least squared distance; the lowest index wins a tie.

    Codes are compared by `|e|^2 - 2 z.e`, in float32: the distance without `|z|^2`, which is the
    same for all of them. An offset that latents and codes share would leave that difference without
    digits, so the first code is subtracted from both. Never holds more than a block of tokens by a
    block of codes.
    """
    (n, d), k = z.shape, len(codebook)
    origin = codebook[:1]
    z = z - origin
    squares = jnp.sum((codebook - origin) ** 2, axis=1)
    if n * k <= TOKEN_BLOCK * CODE_BLOCK:
        return _nearest(z, codebook - origin, squares)[1]
    tokens, codes = min(n, TOKEN_BLOCK), min(k, CODE_BLOCK)
    codebook = _padded(codebook, codes).reshape(-1, codes, d)
    squares = _padded(squares, codes, jnp.inf).reshape(-1, codes)  # padding is never nearest
    starts = codes * jnp.arange(len(codebook), dtype=jnp.int32)

    def of_block(z: Float[Array, "n d"]) -> Int[Array, "n"]:
        scores, nearest = lax.map(
            lambda block: _nearest(z, block[0] - origin, block[1]), (codebook, squares)
        )
        return _least(scores, nearest + starts[:, None], axis=0)[1]

    nearest: Array = lax.map(of_block, _padded(z, tokens).reshape(-1, tokens, d))
    return nearest.reshape(-1)[:n]


def _nearest(
    z: Float[Array, "n d"], codebook: Float[Array, "k d"], squares: Float[Array, "k"]
) -> tuple[Float[Array, "n"], Int[Array, "n"]]:
    """Score and index of each token's nearest code."""
    products = jnp.matmul(z, codebook.T, precision=lax.Precision.HIGHEST)
    scores = squares[None] - 2 * products
    return _least(scores, lax.broadcasted_iota(jnp.int32, scores.shape, 1), axis=1)


def _least(
    scores: Float[Array, "n k"], indices: Int[Array, "n k"], axis: int
) -> tuple[Float[Array, "m"], Int[Array, "m"]]:
    """Least score along an axis, and the lowest of the indices that have it.

    Two plain minima, since XLA vectorises them, but not `argmin`. 'Not greater' in place of 'equal'
    keeps the index one of `indices` where scores are NaN.
    """
    least = scores.min(axis, keepdims=True)
    beyond = np.iinfo(np.int32).max
    return least.squeeze(axis), jnp.where(scores > least, beyond, indices).min(axis)


def _padded(x: Float[Array, "n ..."], block: int, value: float = 0.0) -> Float[Array, "N ..."]:
    """Appends rows of `value` up to a multiple of `block`."""
    missing = -len(x) % block
    return jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), constant_values=value)
