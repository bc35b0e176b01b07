"""What quantisers with a learned table of codes share: its first filling and its dead codes.

Sources: Lloyd (1982) for k-means; Linde, Buzo and Gray (1980), "An algorithm for vector quantizer
design", section III, for the splitting of codes.
"""

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from avq.models.quantizers.base import (
    CodebookStatistics,
    Quantized,
    VectorQuantizer,
    axis_size,
    code_counts,
    psum,
    sample_rows,
)
from avq.models.quantizers.search import nearest_code
from avq.settings import setting

# Share of the mean use that a newly seeded code starts with: light, so that it follows the latents
# that choose it, and counts as dead again soon where none do.
FRESH_USE = 0.1
KMEANS_ITERATIONS = 10
SPLIT = 0.01  # share of the way to a latent by which the two halves of a code differ


class FilledQuantizer(VectorQuantizer):
    """Base of quantisers whose table the first training batch fills, see `fill`, and whose dead
    codes are replaced: those with an average use under `revive_below` times the mean.
    """

    codebook_decay: float = setting(
        0.99, "decay of the moving averages of a codebook or of its use", low=0, high=1
    )
    revive_below: float = setting(
        0.03,
        "share of the mean use below which a code is dead and replaced; 0: never",
        low=0,
        high=1,
    )
    revive_by: Literal["latents", "splitting"] = setting(
        "latents",
        "what replaces dead codes: latents of the batch, or halves of the most used codes",
        choices=("latents", "splitting"),
    )
    fill: Literal["latents", "kmeans", "none"] = setting(
        "latents",
        "first codes: latents of the first batch, centres of its k-means, or random ones",
        choices=("latents", "kmeans", "none"),
    )

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32. Training fills an empty codebook and draws from the rng stream
        'codebook'.
        """
        z = self.latents(z)
        if not self.learns(train):
            return self.quantize(z, train)
        rows = lax.stop_gradient(z.reshape(-1, self.code_dim))
        key = self.make_rng("codebook")
        candidates = sample_rows(key, rows, self.codebook_size, self.axis_name)
        self.fill_if_empty(rows, candidates)
        result = self.quantize(z, train)
        sums = self.sums_of(rows, result.codes.reshape(-1))
        statistics = replace(result.statistics, sums=sums, candidates=candidates)
        return replace(result, statistics=statistics)

    @abstractmethod
    def fill_if_empty(self, latents: Float[Array, "n d"], candidates: Float[Array, "k d"]) -> None:
        """Fills a table that no batch has filled yet by `first_codes`, with a use of `fresh_use`.

        Args:
            latents: this device's.
            candidates: random latents of the global batch, one a code.
        """

    def sums_of(
        self, latents: Float[Array, "n d"], codes: Int[Array, "n"]
    ) -> Float[Array, "k d"] | None:
        """Sums of the latents that chose each code, over the global batch; None where `update`
        needs none.
        """
        return None

    def first_codes(
        self, latents: Float[Array, "n d"], candidates: Float[Array, "k d"], empty: Bool[Array, ""]
    ) -> Float[Array, "k d"]:
        """Codes that fill the table where it is empty; of no use where it is not."""
        if self.fill == "none":
            return self.codebook()
        if self.fill == "latents":
            return candidates
        centres = partial(kmeans, latents, axis_name=self.axis_name)
        codes: Array = lax.cond(empty, centres, lambda start: start, candidates)
        return codes

    def fresh_use(self, latents: Float[Array, "n d"]) -> float:
        """Use that the codes of a table start with that the global batch fills."""
        tokens = len(latents) * axis_size(self.axis_name)
        return FRESH_USE * (tokens / self.codebook_size)

    def revived(
        self,
        use: Float[Array, "k"],
        table: Float[Array, "k d"],
        statistics: CodebookStatistics,
    ) -> tuple[Bool[Array, "k"], Float[Array, "k d"], Float[Array, "k"]]:
        """Which codes are dead, what replaces them, and the use of all codes thereafter.

        Splitting gives the i-th dead code half the use of the i-th most used one, and its vector
        but for a small step to a latent; a code that finds only dead ones becomes that latent.

        Args:
            use: average use.
            table: codes now.
            statistics: of the step.
        """
        candidates = statistics.candidates
        assert candidates is not None
        mean_use = statistics.counts.sum() / self.codebook_size
        dead = use < self.revive_below * mean_use
        revived = jnp.where(dead, FRESH_USE * mean_use, use)
        if self.revive_by == "latents":
            return dead, candidates, revived
        parents = jnp.argsort(-use)[jnp.maximum(jnp.cumsum(dead) - 1, 0)]
        splits = dead & ~dead[parents]
        halved = jnp.zeros_like(dead).at[parents].max(splits)
        revived = jnp.where(splits, use[parents] / 2, jnp.where(halved, use / 2, revived))
        near = table[parents] + SPLIT * (candidates - table[parents])
        return dead, jnp.where(splits[:, None], near, candidates), revived


def kmeans(
    z: Float[Array, "n d"], centres: Float[Array, "k d"], axis_name: str | None = None
) -> Float[Array, "k d"]:
    """Centres after some iterations of Lloyd's algorithm; one that no row chooses stays.

    Args:
        z: this device's rows.
        centres: first ones.
        axis_name: mapped axis over which the rows are split.
    """

    def iterate(_: Any, centres: Float[Array, "k d"]) -> Float[Array, "k d"]:
        codes = nearest_code(z, centres)
        sums = psum(jnp.zeros_like(centres).at[codes].add(z), axis_name)
        counts = psum(code_counts(codes, len(centres)), axis_name)[:, None]
        return jnp.where(counts > 0, sums / jnp.maximum(counts, 1), centres)

    found: Array = lax.fori_loop(0, KMEANS_ITERATIONS, iterate, centres)
    return found
