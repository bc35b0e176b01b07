"""Quantisers whose code is one of each of several codebooks: of the residuals, or of channels.

Sources: Lee et al. (2022), "Autoregressive image generation using residual quantization", section
3.1; Jegou et al. (2011), "Product quantization for nearest neighbor search", section II.B.
"""

from abc import abstractmethod
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from avq.errors import InputError
from avq.models.quantizers.base import CodebookStatistics, Quantized
from avq.models.quantizers.ema import EMAQuantizer
from avq.settings import setting, settings_of


class CompoundQuantizer(EMAQuantizer):
    """Base of quantisers of `parts` codebooks of moving averages, of equal sizes that multiply to
    `codebook_size`. A code numbers the combinations, the first codebook's code running fastest.

    Raises:
        InputError: unless `codebook_size` is the power `parts` of an integer.
    """

    parts: int = setting(
        2,
        "residual, product: codebooks a level, whose sizes multiply to codebook_size",
        low=1,
        high=24,
    )

    def __post_init__(self) -> None:
        if self.part_size**self.parts != self.codebook_size:
            below, above = ((self.part_size + more) ** self.parts for more in (0, 1))
            raise InputError(
                f"model.codebook_size={self.codebook_size} is not the size of "
                f"model.parts={self.parts} equal codebooks. The nearest are {below} and {above}."
            )
        super().__post_init__()

    @property
    def part_size(self) -> int:
        """Codes of each codebook."""
        size: int = round(self.codebook_size ** (1 / self.parts))
        return size if size**self.parts <= self.codebook_size else size - 1

    @property
    def part_dim(self) -> int:
        """Channels of each codebook."""
        return self.code_dim

    def setup(self) -> None:
        values = {name: getattr(self, name) for name in settings_of(EMAQuantizer)}
        values |= {"codebook_size": self.part_size, "code_dim": self.part_dim}
        values |= {"matching": 0.0, "unit_length": False}  # done with the whole latents
        self.codebooks = [
            EMAQuantizer(**values, axis_name=self.axis_name) for _ in range(self.parts)
        ]

    @abstractmethod
    def quantized_parts(self, z: Float[Array, "b h w d"], train: bool) -> list[Quantized]:
        """Results of the codebooks."""

    @abstractmethod
    def joined(self, parts: Sequence[Float[Array, "*n _d"]]) -> Float[Array, "*n d"]:
        """Vectors that the codebooks' vectors make."""

    @abstractmethod
    def joined_loss(self, losses: Float[Array, "m"]) -> Float[Array, ""]:
        """Loss that the codebooks' losses make."""

    def codebook(self) -> Float[Array, "k d"]:
        """Vectors of all codes."""
        return self.lookup(jnp.arange(self.codebook_size))

    def lookup(self, codes: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """Vectors of codes."""
        digits = (codes // self.part_size**place for place in range(self.parts))
        tables = zip(self.codebooks, digits, strict=True)
        return self.joined([table.lookup(digit % self.part_size) for table, digit in tables])

    def __call__(self, z: Float[Array, "b h w d"], train: bool) -> Quantized:
        """Quantises in float32. Training fills empty codebooks and draws from the rng stream
        'codebook'.
        """
        z = self.latents(z)
        parts = self.quantized_parts(z, train)
        codes = sum(part.codes * self.part_size**place for place, part in enumerate(parts))
        vectors = self.joined([lax.stop_gradient(part.vectors) for part in parts])
        loss = self.joined_loss(jnp.stack([part.loss for part in parts]))
        loss += self.matching_loss(z, train)
        counts = self.count_codes(codes, train)
        statistics = CodebookStatistics(counts, parts=tuple(part.statistics for part in parts))
        vectors = self.passed(z, vectors) if train else vectors
        return Quantized(vectors, codes, loss, statistics, z)

    def update(self, statistics: CodebookStatistics) -> None:
        """Updates the codebooks, see `EMAQuantizer.update`."""
        for codebook, part in zip(self.codebooks, statistics.parts, strict=True):
            codebook.update(part)


class ResidualQuantizer(CompoundQuantizer):
    """Each codebook quantises what those before it left of the latents; vectors are sums."""

    def quantized_parts(self, z: Float[Array, "b h w d"], train: bool) -> list[Quantized]:
        """Results of the codebooks, coarsest first."""
        parts: list[Quantized] = []
        for codebook in self.codebooks:
            parts.append(codebook(z, train))
            z -= lax.stop_gradient(parts[-1].vectors)
        return parts

    def joined(self, parts: Sequence[Float[Array, "*n d"]]) -> Float[Array, "*n d"]:
        """Sum of the vectors."""
        return jnp.sum(jnp.stack(parts), axis=0)

    def joined_loss(self, losses: Float[Array, "m"]) -> Float[Array, ""]:
        """Sum of the losses, equation 9 of Lee et al."""
        return losses.sum()


class ProductQuantizer(CompoundQuantizer):
    """Each codebook quantises its own channels.

    Raises:
        InputError: unless `parts` divides `code_dim`.
    """

    def __post_init__(self) -> None:
        if self.code_dim % self.parts:
            raise InputError(
                f"model.code_dim={self.code_dim} channels do not divide into "
                f"model.parts={self.parts} equal parts. Change one of them."
            )
        super().__post_init__()

    @property
    def part_dim(self) -> int:
        """Channels of each codebook."""
        return self.code_dim // self.parts

    def quantized_parts(self, z: Float[Array, "b h w d"], train: bool) -> list[Quantized]:
        """Results of the codebooks, first channels first."""
        channels = jnp.split(z, self.parts, axis=-1)
        return [part(own, train) for part, own in zip(self.codebooks, channels, strict=True)]

    def joined(self, parts: Sequence[Float[Array, "*n _d"]]) -> Float[Array, "*n d"]:
        """The vectors side by side."""
        return jnp.concatenate(parts, axis=-1)

    def joined_loss(self, losses: Float[Array, "m"]) -> Float[Array, ""]:
        """Mean of the losses, which is that over all channels."""
        return losses.mean()
