"""Codebook usage, perplexity, entropy and effective rank."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from avq.evaluate.metrics.base import About, Metric, Number, Value

Counts: TypeAlias = tuple[Number, ...]  # how often each code [k] was chosen, finest level first


def usage(counts: Num[Any, "k"]) -> float:
    """Share of a codebook that was chosen at least once, 0 to 1, of the codes that could be: no
    more than there were choices.

    Args:
        counts: how often each code was chosen, on the host.

    Example:
        >>> usage(np.array([1, 0, 1, 0]))  # two choices cannot use more than two codes
        1.0

    Reference: "active vectors" of Rivera and Hoyos (2023), section 4, over the codebook's size.
    """
    chosen = np.asarray(counts)
    return int(np.sum(chosen > 0)) / max(1, min(len(chosen), int(chosen.sum())))


def perplexity(counts: Num[Any, "k"]) -> float:
    """`exp` of the entropy (nats) of code use: k when all are used alike, 1 when only one is.

    Example:
        >>> round(perplexity(np.array([2.0, 2.0, 0.0])), 6)
        2.0
    """
    used = np.asarray(counts, np.float64)
    shares = used[used > 0] / used.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def effective_rank(counts: Num[Any, "k"], codebook: Num[Any, "k d"]) -> float:
    """Number of directions in which the codes in use differ, 1 to d: `exp` of the entropy (nats) of
    the eigenvalues, as shares of their sum, of the codes' covariance weighted by use. 0 where all
    choices are the same.

    A codebook may use every code and still vary along few of its d channels, which neither usage
    nor perplexity shows.

    Args:
        counts: how often each code was chosen, on the host.
        codebook: vectors of the codes.

    Example:
        >>> round(effective_rank(np.ones(4), np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])), 6)
        2.0

    Reference: Roy and Vetterli (2007), "The effective rank".
    """
    weights = np.asarray(counts, np.float64) / np.sum(counts)
    vectors = np.asarray(codebook, np.float64)
    centred = (vectors - weights @ vectors) * np.sqrt(weights)[:, None]
    spread = np.linalg.svd(centred, compute_uv=False)
    spread = spread[spread > 1e-9 * np.abs(vectors).max()]  # rounding is no direction
    if not len(spread):
        return 0.0
    shares = spread**2 / np.sum(spread**2)
    return float(np.exp(-np.sum(shares * np.log(shares))))


class CodeUse(Metric[Counts]):
    """How many codes of each level's codebook are used, how evenly, and in how many directions they
    differ, over the whole set of images.
    """

    meaning: Mapping[str, str] = {
        "active_codes": "codes used at least once, finest level first",
        "perplexity": "exp of the entropy of code use",
        "usage": "active codes over the codebook's size, or over all choices where they are fewer",
        "entropy_bits": "order-0 entropy of code use, bits a code",
        "effective_rank": "directions in which the codes in use differ, at most their channels",
    }

    def batch(
        self,
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        codes: tuple[Int[Array, "b _h _w"], ...],
        mask: Bool[Array, "b"],
        about: About,
    ) -> Counts:
        """How often each code was chosen, `[k]` by level."""

        def counts(grid: Int[Array, "b h w"], k: int) -> Float[Array, "k"]:
            rows = jnp.broadcast_to(mask[:, None, None], grid.shape).astype(jnp.float32)
            return jnp.zeros(k).at[grid].add(rows)

        return tuple(counts(*level) for level in zip(codes, about.codebook_sizes, strict=True))

    def summary(self, sums: Counts, about: About) -> dict[str, Value]:
        """Active codes, perplexity, usage, entropy and effective rank, each a list by level."""
        perplexities = [perplexity(counts) for counts in sums]
        return {
            "active_codes": [int(np.sum(np.asarray(counts) > 0)) for counts in sums],
            "perplexity": perplexities,
            "usage": [usage(counts) for counts in sums],
            "entropy_bits": [math.log2(value) for value in perplexities],
            "effective_rank": [
                effective_rank(*level) for level in zip(sums, about.codebooks, strict=True)
            ],
        }
