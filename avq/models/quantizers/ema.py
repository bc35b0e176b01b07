"""Vector quantiser whose codebook follows moving averages of the latents.

Source: van den Oord et al. (2017), appendix A.1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from avq.models.quantizers.base import CodebookStatistics, psum, uniform_codes
from avq.models.quantizers.filled import FilledQuantizer

EPSILON = 1e-5  # of the Laplace smoothing


class EMAQuantizer(FilledQuantizer):
    """Vector quantiser whose codebook is state, in the collection 'codebook': moving averages of
    how often each code is chosen and of the sum of the latents that chose it. `update` moves the
    averages once a step.
    """

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

    def sums_of(self, latents: Float[Array, "n d"], codes: Int[Array, "n"]) -> Float[Array, "k d"]:
        """Sums of the latents that chose each code, over the global batch."""
        zeros = jnp.zeros((self.codebook_size, self.code_dim), jnp.float32)
        return psum(zeros.at[codes].add(latents), self.axis_name)

    def update(self, statistics: CodebookStatistics) -> None:
        """Moves the averages by a batch, replaces dead codes and sets the codes that were chosen or
        replaced to the means of the latents that chose them. The others keep their vectors.
        """
        assert statistics.sums is not None
        keep = self.codebook_decay
        counts = keep * self.counts.value + (1 - keep) * statistics.counts
        sums = keep * self.sums.value + (1 - keep) * statistics.sums
        dead, vectors, revived = self.revived(counts, self.table.value, statistics)
        share = jnp.where(revived < counts, 0.5, 1.0)  # of a code that was split
        sums = jnp.where(dead[:, None], vectors * revived[:, None], sums * share[:, None])
        counts = revived
        total = counts.sum()
        smoothed = (counts + EPSILON) / (total + self.codebook_size * EPSILON) * total
        self.counts.value, self.sums.value = counts, sums
        moved = (statistics.counts > 0) | dead
        means = self.scaled(sums / smoothed[:, None])
        self.table.value = jnp.where(moved[:, None], means, self.table.value)

    def fill_if_empty(self, latents: Float[Array, "n d"], candidates: Float[Array, "k d"]) -> None:
        empty = self.counts.value.sum() == 0
        codes = self.first_codes(latents, candidates, empty)
        fresh = self.fresh_use(latents)
        self.table.value = jnp.where(empty, self.scaled(codes), self.table.value)
        self.counts.value = jnp.where(empty, fresh, self.counts.value)
        self.sums.value = jnp.where(empty, codes * fresh, self.sums.value)
