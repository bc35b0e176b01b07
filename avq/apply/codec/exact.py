"""Arithmetic of real numbers that finds the same bits on every machine.

Two things are the same everywhere. IEEE 754 rounds a sum, a product, a quotient and a square root
of float64 correctly. And a sum of multiples of a power of two that stays below 2^53 of them is not
rounded at all, so that its order, and how a matrix product is blocked or fused, do not matter.
Nothing else is done here: what is summed is rounded to such multiples before, and exponentials come
from tables that are correctly rounded, too.
"""

from decimal import Decimal
from functools import lru_cache

import numpy as np
from jaxtyping import Float

UNIT = 2.0**-12  # of what is summed
WEIGHT_UNIT = 2.0**-16
BOUND = 2.0**8  # of what is summed, beyond which it is cut
EXACT = 2.0**53
MAX_TERMS = int(EXACT / (BOUND / UNIT) ** 2)  # of a sum of products
EPSILON = 1e-6  # of Flax's RMSNorm
_FINE, _COARSE = 256, 256  # steps of the exponentials' tables, in each step and in a unit
_CUT = 16  # where exponentials end: below, they are 0

Array64 = Float[np.ndarray, "..."]


def fixed(x: Array64) -> Array64:
    """The nearest multiples of `UNIT` within `BOUND`, which may be summed."""
    rounded: Array64 = np.floor(np.clip(x, -BOUND, BOUND) * (1 / UNIT) + 0.5) * UNIT
    return rounded


def weights(values: Array64) -> Array64:
    """The nearest multiples of `WEIGHT_UNIT`, as float64."""
    rounded: Array64 = np.rint(values.astype(np.float64) / WEIGHT_UNIT) * WEIGHT_UNIT
    return rounded


def are_exact(kernel: Float[np.ndarray, "n m"]) -> bool:
    """Whether products of anything `fixed` with `weights` are summed without rounding."""
    return bool(np.abs(kernel).sum(axis=0).max() * BOUND < EXACT * UNIT * WEIGHT_UNIT)


@lru_cache(maxsize=1)
def _exponentials() -> tuple[Array64, Array64]:
    """`exp(-i / 256)` to the cut and a zero, and `exp(-j / 65536)`, correctly rounded."""
    coarse = [float((Decimal(-i) / _COARSE).exp()) for i in range(_CUT * _COARSE)]
    fine = [float((Decimal(-j) / (_COARSE * _FINE)).exp()) for j in range(_FINE)]
    return np.array([*coarse, 0.0]), np.array(fine)


def exponential(x: Array64) -> Array64:
    """`exp(x)` of numbers up to 0, to 2^-16 of it; 0 below -16."""
    coarse, fine = _exponentials()
    steps = np.minimum(-x, _CUT) * (_COARSE * _FINE)
    high, low = np.divmod(np.floor(steps + 0.5).astype(np.int64), _FINE)
    result: Array64 = coarse[high] * fine[low]
    return result


def silu(x: Array64) -> Array64:
    """`x * sigmoid(x)`."""
    below = exponential(-np.abs(x))
    result: Array64 = x * (np.where(x < 0, below, 1.0) / (1.0 + below))
    return result


def rms_norm(x: Float[np.ndarray, "m c"], scale: Float[np.ndarray, "c"]) -> Array64:
    """Root mean square normalisation; `x` is `fixed`, and so is the result."""
    mean = (x * x).sum(axis=-1, keepdims=True) / x.shape[-1]
    return fixed(x / np.sqrt(mean + EPSILON) * scale)


def softmax_sum(
    logits: Float[np.ndarray, "*h m p"], values: Float[np.ndarray, "*h p d"]
) -> Float[np.ndarray, "*h m d"]:
    """Sums of `fixed` values, weighted by softmax."""
    shares = np.floor(exponential(logits - logits.max(axis=-1, keepdims=True)) / WEIGHT_UNIT + 0.5)
    result: Array64 = (shares @ values) / shares.sum(axis=-1, keepdims=True)
    return result


def frequencies(logits: Float[np.ndarray, "m k"], total: int) -> Float[np.ndarray, "m k"]:
    """Integers from 0 on that add up to `total`, by the exponentials of logits; the first one has
    what rounding leaves.
    """
    shares = np.floor(exponential(logits - logits.max(axis=-1, keepdims=True)) * 2.0**20 + 0.5)
    result: Array64 = np.floor(shares * (total / shares.sum(axis=-1, keepdims=True)))
    result[:, 0] += total - result.sum(axis=-1)
    return result.astype(np.float32, copy=False)
