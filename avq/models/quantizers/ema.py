"""Vector quantiser whose codebook follows moving averages of the latents.

Source: van den Oord et al. (2017), appendix A.1.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from avq.models.quantizers.base import (
    CodebookStatistics,
    Quantized,
    VectorQuantizer,
    axis_size,
    code_counts,
    psum,
    sample_rows,
    uniform_codes,
)
from avq.models.quantizers.search import nearest_code
from avq.settings import setting

EPSILON = 1e-5  # of the Laplace smoothing
# Share of the mean use that a newly seeded code starts with: light, so that it follows the latents
# that choose it, and counts as dead again soon where none do.
FRESH_USE = 0.1
KMEANS_ITERATIONS = 10


class EMAQuantizer(VectorQuantizer):
    """Vector quantiser whose codebook is state, in the collection 'codebook': moving averages of
    how often each code is chosen and of the sum of the latents that chose it.

    `update` moves the averages once a step. The first training batch fills the codebook, see
    `fill`; a code whose average use falls under `revive_below` times the mean is replaced by a
    latent of the batch.
    """

    codebook_decay: float = setting(0.99, "decay of the codebook's moving averages", low=0, high=1)
    revive_below: float = setting(
        0.03,
        "share of the mean use below which a code is dead and replaced; 0: never",
        low=0,
        high=1,
    )

    fill: Literal["latents", "kmeans"] = setting(
        "latents",
        "first codes: latents of the first batch, or centres of its k-means",
        choices=("latents", "kmeans"),
    )

    def setup(self) -> None:
        shape = (self.codebook_size, self.code_dim)
        self.table = self.variable(
            "codebook", "embedding", lambda: uniform_codes(self.make_rng("params"), shape)
        )
        self.counts = self.variable("codebook", "counts", jnp.zeros, shape[:1], jnp.float32)
        self.sums = self.variable("codebook", "sums", jnp.zeros, shape, jnp.float32)

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        table: Array = self.table.value
        return table

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32. Training fills an empty codebook and draws from the rng stream
        'codebook'.
        """
        z = self.latents(z)
        latents = lax.stop_gradient(z.reshape(-1, self.code_dim))
        learning = train and not self.is_initializing()
        if learning:
            key = self.make_rng("codebook")
            candidates = sample_rows(key, latents, self.codebook_size, self.axis_name)
            tokens = len(latents) * axis_size(self.axis_name)
            self._fill_if_empty(latents, candidates, tokens / self.codebook_size)
        codes, chosen = self.nearest(z)
        loss = self.commitment * jnp.mean((z - lax.stop_gradient(chosen)) ** 2)
        loss += self.matching_loss(z, train)
        statistics = CodebookStatistics(self.count_codes(codes, train))
        if learning:
            sums = jnp.zeros_like(candidates).at[codes.reshape(-1)].add(latents)
            sums = psum(sums, self.axis_name)
            statistics = replace(statistics, sums=sums, candidates=candidates)
        vectors = self.passed(z, chosen) if train else chosen
        return Quantized(vectors, codes, loss, statistics, z)

    def update(self, statistics: CodebookStatistics) -> None:
        """Moves the averages by a batch, replaces dead codes and sets the codes that were chosen or
        replaced to the means of the latents that chose them. The others keep their vectors.
        """
        assert statistics.sums is not None
        assert statistics.candidates is not None
        keep = self.codebook_decay
        counts = keep * self.counts.value + (1 - keep) * statistics.counts
        sums = keep * self.sums.value + (1 - keep) * statistics.sums
        mean_use = statistics.counts.sum() / self.codebook_size
        dead = counts < self.revive_below * mean_use
        fresh = FRESH_USE * mean_use
        counts = jnp.where(dead, fresh, counts)
        sums = jnp.where(dead[:, None], statistics.candidates * fresh, sums)
        total = counts.sum()
        smoothed = (counts + EPSILON) / (total + self.codebook_size * EPSILON) * total
        self.counts.value, self.sums.value = counts, sums
        moved = (statistics.counts > 0) | dead
        means = self.scaled(sums / smoothed[:, None])
        self.table.value = jnp.where(moved[:, None], means, self.table.value)

    def _fill_if_empty(
        self, latents: Float[Array, "n d"], candidates: Float[Array, "k d"], mean_use: float
    ) -> None:
        empty = self.counts.value.sum() == 0
        fresh = FRESH_USE * mean_use
        if self.fill == "kmeans":
            centres = partial(kmeans, latents, axis_name=self.axis_name)
            candidates = lax.cond(empty, centres, lambda start: start, candidates)
        self.table.value = jnp.where(empty, self.scaled(candidates), self.table.value)
        self.counts.value = jnp.where(empty, fresh, self.counts.value)
        self.sums.value = jnp.where(empty, candidates * fresh, self.sums.value)


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
