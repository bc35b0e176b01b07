"""Codebook usage and perplexity."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from avq.evaluate.metrics.base import About, Metric, Number, Value

Counts: TypeAlias = tuple[Number, ...]  # how often each code [k] was chosen, finest level first


def usage(counts: Num[Any, "k"]) -> float:
    """Share of a codebook that was chosen at least once, 0 to 1.

    Args:
        counts: how often each code was chosen, on the host.

    Reference: "active vectors" of Rivera and Hoyos (2023), section 4, over the codebook's size.
    """
    return int(np.sum(np.asarray(counts) > 0)) / len(counts)


def perplexity(counts: Num[Any, "k"]) -> float:
    """`exp` of the entropy (nats) of code use: k when all are used alike, 1 when only one is.

    Example:
        >>> round(perplexity(np.array([2.0, 2.0, 0.0])), 6)
        2.0
    """
    used = np.asarray(counts, np.float64)
    shares = used[used > 0] / used.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


class CodeUse(Metric[Counts]):
    """How many codes of each level's codebook are used, and how evenly, over the whole set of
    images.
    """

    meaning: Mapping[str, str] = {
        "active_codes": "codes used at least once, finest level first",
        "perplexity": "exp of the entropy of code use",
        "usage": "active codes over the codebook's size",
    }

    def batch(
        self,
        images: Float[Array, "b h w 3"],
        targets: Float[Array, "b h w 3"],
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
        """Active codes, perplexity and usage, each a list by level."""
        return {
            "active_codes": [int(np.sum(np.asarray(counts) > 0)) for counts in sums],
            "perplexity": [perplexity(counts) for counts in sums],
            "usage": [usage(counts) for counts in sums],
        }
