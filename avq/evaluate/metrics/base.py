"""Contract of a metric, and sums over images that merge over batches, devices and hosts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

S = TypeVar("S")  # a pytree of arrays
Number: TypeAlias = Array | np.ndarray | np.number  # on the device, on the host, merged
Value: TypeAlias = int | float | list[int] | list[float]  # lists by level, finest first


@dataclass(frozen=True)
class About:
    """Constants of an evaluation, known before its first batch.

    Attributes:
        image_size: side of the square images, pixels.
        pixel_std, pixel_variance: of the training pixels in [-1, 1].
        codebook_sizes: number of codes by level, finest first.
        bits_per_pixel: of the codes that decoding reads, without entropy coding.
        decoded_levels: levels, from the finest on, whose codes decoding reads.
        codebooks: vectors [k, d] of each level's codes, finest first, on the host; known to
            `Metric.summary` alone.
    """

    image_size: int
    pixel_std: float
    pixel_variance: float
    codebook_sizes: tuple[int, ...]
    bits_per_pixel: float
    decoded_levels: int
    codebooks: tuple[Float[np.ndarray, "_k _d"], ...] = field(default=(), compare=False, repr=False)


class Metric(ABC, Generic[S]):
    """A measure of reconstructions, or of the codes they were decoded from.

    Attributes:
        meaning: one line on each key of `summary`, in the order in which they are printed.
    """

    meaning: Mapping[str, str]

    @abstractmethod
    def batch(
        self,
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        codes: tuple[Int[Array, "b _h _w"], ...],
        mask: Bool[Array, "b"],
        about: About,
    ) -> S:
        """Sums over the rows of a batch where `mask` is true. Runs inside `jax.jit`.

        Args:
            images: reconstructions in [-1, 1], rounded to the 256 levels of a picture.
            targets: originals in [-1, 1].
            codes: by level, finest first.
            mask: false for padding and unreadable images, whose rows hold arbitrary values.
            about: static.

        Returns:
            A pytree of arrays. Those of several batches are added up leaf by leaf.
        """

    @abstractmethod
    def summary(self, sums: S, about: About) -> dict[str, Value]:
        """Values over all images by key, from merged sums, on the host."""


class Mean(NamedTuple):
    """Mergeable mean of one number per image."""

    total: Number
    n: Number

    @classmethod
    def over(cls, per_image: Float[Array, "b"], mask: Bool[Array, "b"]) -> "Mean":
        """Sums over the images where `mask` is true."""
        return cls(jnp.sum(jnp.where(mask, per_image, 0.0)), jnp.sum(mask))

    def value(self) -> float:
        """The mean."""
        return float(self.total) / int(self.n)


class ImageMean(Metric[Mean]):
    """Mean over images of one number per image, which `Results.per_image` keeps."""

    @property
    def key(self) -> str:
        """Name of the mean and of the numbers: the first of `meaning`."""
        return next(iter(self.meaning))

    @abstractmethod
    def per_image(
        self, images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]
    ) -> Float[Array, "b"]:
        """The number of each image; arguments as for `batch`."""

    def batch(
        self,
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        codes: tuple[Int[Array, "b _h _w"], ...],
        mask: Bool[Array, "b"],
        about: About,
    ) -> Mean:
        """Sum of the numbers of the images."""
        return Mean.over(self.per_image(images, targets), mask)

    def summary(self, sums: Mean, about: About) -> dict[str, Value]:
        """The mean over images."""
        return {self.key: sums.value()}


def merge(a: Any, b: Any) -> Any:
    """Sums over the images of both, in float64 on the host. Trees of the same structure."""
    return jax.tree.map(lambda x, y: np.add(x, y, dtype=np.float64), a, b)
