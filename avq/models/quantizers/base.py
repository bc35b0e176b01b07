"""The contract of a quantiser, and the parts that several share.

Source: van den Oord et al. (2017), for the straight-through estimator and the commitment loss.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from avq.models.quantizers.search import nearest_code
from avq.settings import setting
from avq.typing import Leaf


@flax.struct.dataclass
class CodebookStatistics:
    """Codebook statistics of the global batch. Statistics of micro-batches add up to them, once
    `in_turns` has given each a share of the candidates.

    Attributes:
        counts: how often each code `[k]` was chosen, float32.
        sums: sum of the latents `[k, d]` that chose each code; None where `update` needs none.
        candidates: random latents `[k, d]` to replace dead codes; None as above.
        parts: of each codebook, where a code is made of several.
    """

    counts: Leaf
    sums: Leaf | None = None
    candidates: Leaf | None = None
    parts: "tuple[CodebookStatistics, ...]" = ()

    def in_turns(self, turn: int | Int[Array, ""], turns: int) -> "CodebookStatistics":
        """Keeps the candidates of codes k with `k % turns == turn`; zeroes the others."""
        candidates = self.candidates
        if candidates is not None:
            kept = jnp.arange(len(candidates)) % turns == turn
            candidates = jnp.where(kept[:, None], candidates, 0.0)
        parts = tuple(part.in_turns(turn, turns) for part in self.parts)
        return replace(self, candidates=candidates, parts=parts)


@flax.struct.dataclass
class Quantized:
    """Result of a quantiser.

    Attributes:
        vectors: vectors `[b, h, w, d]` of the chosen codes; in training their gradient passes to
            the latents.
        codes: indices `[b, h, w]` of the chosen codes, int32.
        loss: weighted loss of this device's batch that training minimises, a scalar.
        statistics: argument of `Quantizer.update`.
        latents: what the vectors take the place of, where the quantiser scales or bounds what it
            is given; None where that is it.
    """

    vectors: Leaf
    codes: Leaf
    loss: Leaf
    statistics: CodebookStatistics
    latents: Leaf | None = None


class Quantizer(nn.Module, ABC):
    """Contract of a quantiser: replaces latent vectors by the nearest of `codebook_size` codes.

    `codebook_size` and `code_dim` are fields or properties that can be read before there are
    variables. A table of codes is the variable 'embedding', either a parameter or, where `update`
    moves it, in the collection 'codebook' beside its statistics, which count as no part of the
    model's size. Random draws in training come from the rng stream 'codebook'.

    Attributes:
        axis_name: mapped axis over which statistics are summed in training; None for one device.
    """

    axis_name: str | None = None

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """Number of codes k; codes are 0..k-1."""

    @property
    @abstractmethod
    def code_dim(self) -> int:
        """Channels d of the latents and of a code's vector."""

    @abstractmethod
    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises latents in float32, whatever their type."""

    @abstractmethod
    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""

    def lookup(self, codes: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """Vectors of codes."""
        return self.codebook()[codes]

    def update(self, statistics: CodebookStatistics) -> None:
        """Updates the collection 'codebook' once a step; by default there is nothing to update."""

    def count_codes(self, codes: Int[Array, "b h w"], train: bool) -> Float[Array, "k"]:
        """How often each code was chosen; in training over all devices."""
        counts = code_counts(codes.reshape(-1), self.codebook_size)
        return psum(counts, self.mapped_axis(train))

    def mapped_axis(self, train: bool) -> str | None:
        """`axis_name` where it is bound: in training."""
        return self.axis_name if self.learns(train) else None

    def learns(self, train: bool) -> bool:
        """Whether a call is one of training, and no initialisation."""
        return train and not self.is_initializing()


class VectorQuantizer(Quantizer):
    """Base of quantisers that choose the nearest vector of a table of `codebook_size` codes."""

    codebook_size: int = setting(1024, "codes in the codebook of each level", low=1, high=2**24)
    code_dim: int = setting(256, "channels of a latent and of a code", low=1, high=2**16)
    commitment: float = setting(
        0.25, "weight beta of |z - sg(e)|^2, which keeps the encoder near its codes", low=0
    )
    matching: float = setting(
        0.0, "weight of the distance of the latents' mean and covariance to 0 and 1", low=0
    )
    code_entropy: float = setting(
        0.0,
        "weight of the entropy of a latent's soft choice of a code less that of the batch's, nats",
        low=0,
    )
    code_temperature: float = setting(
        0.01, "temperature of that soft choice, in squared distances", low=1e-6
    )
    estimator: Literal["straight_through", "rotation"] = setting(
        "straight_through",
        "gradient of latents from that of their codes: as it is, or rotated as the code is",
        choices=("straight_through", "rotation"),
    )
    unit_length: bool = setting(
        False, "whether latents and codes are scaled to length 1 (cosine similarity)"
    )

    def latents(self, z: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Latents that are quantised, in float32."""
        return self.scaled(z.astype(jnp.float32))

    def scaled(self, rows: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Latents or codes of length 1 where `unit_length` asks for it."""
        return of_unit_length(rows) if self.unit_length else rows

    def passed(
        self, z: Float[Array, "b h w d"], vectors: Float[Array, "b h w d"]
    ) -> Float[Array, "b h w d"]:
        """Value of `vectors` with the gradient of the chosen estimator to `z`."""
        through = rotated if self.estimator == "rotation" else straight_through
        return through(z, vectors)

    def quantize(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises `latents` by `codebook`; statistics are the counts alone."""
        codes, chosen = self.nearest(z)
        loss = self.loss(z, chosen, train)
        statistics = CodebookStatistics(self.count_codes(codes, train))
        vectors = self.passed(z, chosen) if train else chosen
        return Quantized(vectors, codes, loss, statistics, z)

    def loss(
        self, z: Float[Array, "b h w d"], chosen: Float[Array, "b h w d"], train: bool
    ) -> Float[Array, ""]:
        """Weighted commitment loss of latents and the codes that they chose, and `spread_loss`."""
        commitment = self.commitment * jnp.mean((z - lax.stop_gradient(chosen)) ** 2)
        return commitment + self.spread_loss(z, train)

    def spread_loss(self, z: Float[Array, "b h w d"], train: bool) -> Float[Array, ""]:
        """Weighted losses by which latents use all codes: matching and `soft_entropy`."""
        loss = self.matching_loss(z, train)
        if self.code_entropy:
            rows, axis_name = z.reshape(-1, self.code_dim), self.mapped_axis(train)
            entropy = soft_entropy(rows, self.codebook(), self.code_temperature, axis_name)
            loss += self.code_entropy * entropy
        return loss

    def matching_loss(self, z: Float[Array, "b h w d"], train: bool) -> Float[Array, ""]:
        """Weighted `normal_distance` of the latents; 0 without a weight."""
        if not self.matching:
            return jnp.zeros(())
        rows = z.reshape(-1, self.code_dim)
        return self.matching * normal_distance(rows, self.mapped_axis(train))

    def nearest(
        self, z: Float[Array, "b h w d"]
    ) -> tuple[Int[Array, "b h w"], Float[Array, "b h w d"]]:
        """Nearest code of every latent, and its vector. No gradient passes to `z`."""
        table = self.codebook()
        latents = lax.stop_gradient(z.reshape(-1, self.code_dim))
        codes = nearest_code(latents, lax.stop_gradient(table))
        return codes.reshape(z.shape[:-1]), table[codes].reshape(z.shape)


def uniform_codes(key: Array, shape: tuple[int, int]) -> Float[Array, "k d"]:
    """Initial table: uniform in `[-1, 1] / sqrt(d)`."""
    initializer = nn.initializers.variance_scaling(
        1 / 3, "fan_in", "uniform", in_axis=1, out_axis=0
    )
    return initializer(key, shape, jnp.float32)


def codebook_loss(z: Float[Array, "b h w d"], chosen: Float[Array, "b h w d"]) -> Float[Array, ""]:
    """`|sg(z) - e|^2`, mean over channels, which draws codes to the latents that chose them; van
    den Oord et al. (2017), equation 3.
    """
    return jnp.mean((lax.stop_gradient(z) - chosen) ** 2)


def straight_through(
    z: Float[Array, "b h w d"], vectors: Float[Array, "b h w d"]
) -> Float[Array, "b h w d"]:
    """Value of `vectors`, to the last bit, with the gradient of `z`."""
    return lax.stop_gradient(vectors) + (z - lax.stop_gradient(z))


def rotated(
    z: Float[Array, "b h w d"], vectors: Float[Array, "b h w d"]
) -> Float[Array, "b h w d"]:
    """Value of `vectors`, but for rounding, as a rotation and scaling of `z`, through which the
    gradient passes.

    Reference: Fifty et al. (2024), "Restructuring vector quantization with the rotation trick",
    section 4.2.
    """
    fixed, target = lax.stop_gradient((z, vectors))
    start, end = of_unit_length(fixed), of_unit_length(target)
    middle = of_unit_length(start + end)
    scale = _length(target) / jnp.maximum(_length(fixed), 1e-6)
    along = jnp.sum(z * middle, axis=-1, keepdims=True) * middle
    across = jnp.sum(z * start, axis=-1, keepdims=True) * end
    return scale * (z - 2 * along + 2 * across)


def of_unit_length(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Rows scaled to length 1; rows of zeros stay."""
    return x * lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def _length(x: Float[Array, "*n d"]) -> Float[Array, "*n 1"]:
    return jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True))


def normal_distance(z: Float[Array, "n d"], axis_name: str | None = None) -> Float[Array, ""]:
    """Squared 2-Wasserstein distance, over d, of the normal distribution that has the mean and
    covariance of the global batch, to the standard one: `|m|^2 + sum (sqrt(l_i) - 1)^2` over the
    covariance's eigenvalues.

    Codes of latents that fill all their directions evenly are used evenly.

    Reference: Fang et al. (2025), "Enhancing vector quantization with distributional matching",
    section 3.
    """
    n, d = z.shape[0] * axis_size(axis_name), z.shape[1]
    mean = psum(z.sum(0), axis_name) / n
    centred = z - mean[None]
    covariance = psum(centred.T @ centred, axis_name) / n
    spread = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(covariance), 1e-6))
    return (jnp.sum(mean**2) + jnp.sum((spread - 1) ** 2)) / d


def soft_entropy(
    z: Float[Array, "n d"],
    codebook: Float[Array, "k d"],
    temperature: float,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Mean entropy of a latent's soft choice, the softmax of `-|z - e|^2 / temperature` over the
    codes, less the entropy of the mean choice of the global batch; nats. Holds a matrix of all
    latents by all codes.

    Reference: Yu et al. (2023), "Language model beats diffusion", equation 5.
    """
    products = jnp.matmul(z, codebook.T, precision=lax.Precision.HIGHEST)
    scores = (2 * products - jnp.sum(codebook**2, axis=1)[None]) / temperature
    log_choice = jax.nn.log_softmax(scores)
    choice = jnp.exp(log_choice)
    mean = psum(choice.sum(0), axis_name) / (len(z) * axis_size(axis_name))
    of_mean = -jnp.sum(mean * jnp.log(jnp.maximum(mean, 1e-30)))
    return -jnp.mean(jnp.sum(choice * log_choice, axis=1)) - of_mean


def code_counts(codes: Int[Array, "n"], k: int) -> Float[Array, "k"]:
    """How often each of `k` codes was chosen."""
    return jnp.zeros(k, jnp.float32).at[codes].add(1.0)


def sample_rows(
    key: Array, z: Float[Array, "n d"], k: int, axis_name: str | None
) -> Float[Array, "k d"]:
    """`k` random rows of the global batch, the same on every device and for any number of devices.

    One key draws row numbers of the global batch; each device adds the rows that it holds to a sum
    over the devices. Rows are drawn without replacement as long as there are enough.
    """
    n = z.shape[0]
    total = n * axis_size(axis_name)
    rows = jax.random.choice(key, total, (k,), replace=total < k)
    local = rows if axis_name is None else rows - lax.axis_index(axis_name) * n
    mine = (local >= 0) & (local < n)
    picked = jnp.where(mine[:, None], z[jnp.clip(local, 0, n - 1)], 0.0)
    return psum(picked, axis_name)


def axis_size(axis_name: str | None) -> int:
    """Devices along a mapped axis; 1 for None."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def psum(x: Float[Array, "..."], axis_name: str | None) -> Float[Array, "..."]:
    """Sum over the devices along a mapped axis; `x` itself for None."""
    return x if axis_name is None else lax.psum(x, axis_name)
