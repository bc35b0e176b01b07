"""Codebook usage and perplexity."""

from collections.abc import Mapping
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from avq.evaluate.metrics.base import About, Metric, Number, Value
from avq.models.quantizers import perplexity

Counts: TypeAlias = tuple[Number, ...]  # how often each code [k] was chosen, finest level first


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
        active = [int(np.sum(np.asarray(counts) > 0)) for counts in sums]
        sizes = about.codebook_sizes
        return {
            "active_codes": active,
            "perplexity": [float(perplexity(jnp.asarray(c, jnp.float32))) for c in sums],
            "usage": [count / k for count, k in zip(active, sizes, strict=True)],
        }
