"""Vector quantisation: latents become their nearest codes, and the codebook learns.

Source: van den Oord et al. (2017), for the straight-through estimator, the commitment loss and the
moving-average codebook (their appendix A.1).
"""

from dataclasses import replace
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from avq.models.search import nearest_code

EPSILON = 1e-5  # of the Laplace smoothing
# Share of the mean use that a newly seeded code starts with: light, so that it follows what
# chooses it, and counts as dead again soon where nothing does.
FRESH_USE = 0.1


@flax.struct.dataclass
class Statistics:
    """What the global batch says to a codebook. Those of micro-batches, taken in turns, add up to
    those of the batch.

    Attributes:
        counts: how often each code `[k]` was chosen.
        sums: of the latents `[k, d]` that chose each; None where no moving average learns.
        rows: latents `[k, d]` drawn at random, for codes that are dead; None as above.
    """

    counts: Any
    sums: Any = None
    rows: Any = None

    def in_turns(self, turn: Any, of: int) -> "Statistics":
        """The same with rows for every `of`-th code alone, from number `turn` on, else zeros."""
        if self.rows is None:
            return self
        mine = jnp.arange(len(self.rows)) % of == turn
        return replace(self, rows=jnp.where(mine[:, None], self.rows, 0.0))


@flax.struct.dataclass
class Quantized:
    """What a quantiser returns.

    Attributes:
        vectors: chosen codes `[b, h, w, d]`; in training their gradient passes straight through to
            the input.
        codes: their indices `[b, h, w]`, int32.
        loss: commitment (plus codebook) loss of the local batch, a scalar.
        statistics: for `Quantizer.learn`.
    """

    vectors: Any
    codes: Any
    loss: Any
    statistics: Statistics


def code_counts(codes: Int[Array, "n"], k: int) -> Float[Array, "k"]:
    """How often each of `k` codes was chosen."""
    return jnp.zeros(k, jnp.float32).at[codes].add(1.0)


def perplexity(counts: Float[Array, "k"]) -> Float[Array, ""]:
    """`exp` of the entropy (nats) of code use: k when all are used alike, 1 when only one is.

    Example:
        >>> perplexity(jnp.array([2.0, 2.0, 0.0]))
        Array(2., dtype=float32)
    """
    p = counts / jnp.maximum(counts.sum(), 1.0)
    return jnp.exp(-jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0)))


def sample_rows(
    key: Array, z: Float[Array, "n d"], k: int, axis_name: str | None
) -> Float[Array, "k d"]:
    """`k` random rows of the global batch, the same on every device and for any number of devices.

    One key draws row numbers of the global batch; each device adds the rows that it holds to a sum
    over the devices. Rows are drawn without replacement as long as there are enough.
    """
    n = z.shape[0]
    total = n * _devices(axis_name)
    rows = jax.random.choice(key, total, (k,), replace=total < k)
    local = rows if axis_name is None else rows - lax.axis_index(axis_name) * n
    mine = (local >= 0) & (local < n)
    picked = jnp.where(mine[:, None], z[jnp.clip(local, 0, n - 1)], 0.0)
    return _sum(picked, axis_name)


class Quantizer(nn.Module):
    """Replaces every latent vector by its nearest code, in float32 whatever comes in.

    With `update='ema'` the codebook is no parameter but state, in the collection 'codebook': moving
    averages of how often each code is chosen and of the sum of what chose it, which `learn` moves
    once a step. The first training batch fills it with its own latents; a code whose average use
    falls under `revive_below` times the mean is re-seeded with a latent of the batch. With
    `update='gradient'` it is a parameter, drawn to the latents by the codebook loss; nothing
    revives its codes.

    Attributes:
        codes: size k of the codebook.
        width: d, channels of a code.
        update: 'ema' or 'gradient'.
        commitment: weight beta of `|z - sg(e)|^2`, which keeps the encoder near its codes.
        decay: of the moving averages.
        revive_below: share of the mean use below which a code counts as dead; 0 revives none.
        axis_name: mapped axis over which statistics are summed in training.
    """

    codes: int
    width: int
    update: Literal["ema", "gradient"] = "ema"
    commitment: float = 0.25
    decay: float = 0.99
    revive_below: float = 0.03
    axis_name: str | None = None

    def setup(self) -> None:
        shape = (self.codes, self.width)
        uniform = nn.initializers.variance_scaling(
            1 / 3, "fan_in", "uniform", in_axis=1, out_axis=0
        )
        if self.update == "gradient":
            self.embedding = self.param("embedding", uniform, shape)
            return
        if self.update != "ema":
            raise ValueError(f"codebook update {self.update!r} is not one of ema, gradient")
        self.table = self.variable(
            "codebook", "embedding", lambda: uniform(self.make_rng("params"), shape, jnp.float32)
        )
        self.counts = self.variable("codebook", "counts", jnp.zeros, (self.codes,), jnp.float32)
        self.sums = self.variable("codebook", "sums", jnp.zeros, shape, jnp.float32)

    def codebook(self) -> Float[Array, "k d"]:
        """The table of code vectors."""
        return self.embedding if self.update == "gradient" else self.table.value

    def lookup(self, codes: Int[Array, "b h w"]) -> Float[Array, "b h w d"]:
        """Code vectors of an index grid."""
        return self.codebook()[codes]

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises. In training fills a codebook that is empty, and draws from the rng stream
        'codebook'.
        """
        z = z.astype(jnp.float32)
        flat = z.reshape(-1, self.width)
        latents = lax.stop_gradient(flat)
        training = train and not self.is_initializing()
        learning = training and self.update == "ema"
        if learning:
            rows = sample_rows(self.make_rng("codebook"), latents, self.codes, self.axis_name)
            self._fill_if_empty(rows, flat.shape[0] * _devices(self.axis_name) / self.codes)
        table = self.codebook()
        codes = nearest_code(latents, lax.stop_gradient(table))
        chosen = table[codes].reshape(z.shape)
        loss = self.commitment * jnp.mean((z - lax.stop_gradient(chosen)) ** 2)
        if self.update == "gradient":
            loss += jnp.mean((lax.stop_gradient(z) - chosen) ** 2)
        counts = code_counts(codes, self.codes)
        statistics = Statistics(_sum(counts, self.axis_name) if training else counts)
        if learning:
            sums = _sum(jnp.zeros_like(table).at[codes].add(latents), self.axis_name)
            statistics = Statistics(statistics.counts, sums, rows)
        vectors = z + lax.stop_gradient(chosen - z) if train else chosen
        return Quantized(vectors, codes.reshape(z.shape[:-1]), loss, statistics)

    def _fill_if_empty(self, rows: Float[Array, "k d"], mean_use: float) -> None:
        empty = self.counts.value.sum() == 0
        fresh = FRESH_USE * mean_use
        self.table.value = jnp.where(empty, rows, self.table.value)
        self.counts.value = jnp.where(empty, fresh, self.counts.value)
        self.sums.value = jnp.where(empty, rows * fresh, self.sums.value)

    def learn(self, batch: Statistics) -> None:
        """Moves a codebook of moving averages by a batch; nothing else moves."""
        if self.update == "gradient":
            return
        counts = self.decay * self.counts.value + (1 - self.decay) * batch.counts
        sums = self.decay * self.sums.value + (1 - self.decay) * batch.sums
        mean_use = batch.counts.sum() / self.codes
        dead = counts < self.revive_below * mean_use
        fresh = FRESH_USE * mean_use
        counts = jnp.where(dead, fresh, counts)
        sums = jnp.where(dead[:, None], batch.rows * fresh, sums)
        total = counts.sum()
        smoothed = (counts + EPSILON) / (total + self.codes * EPSILON) * total
        self.counts.value, self.sums.value = counts, sums
        self.table.value = sums / smoothed[:, None]


def _devices(axis_name: str | None) -> int:
    return 1 if axis_name is None else lax.axis_size(axis_name)


def _sum(x: Array, axis_name: str | None) -> Array:
    return x if axis_name is None else lax.psum(x, axis_name)
