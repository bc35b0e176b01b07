"""What the priors have in common: their contract, and how codes are drawn from logits.

A prior is a distribution of the codes of an image, coarsest level first, row by row, each finer
level given the coarser ones. Labels are integers below `classes`, or `classes` itself for none.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Key

from avq.models.prior.places import Grids
from avq.settings import setting

Codes = tuple[Integer[Array, "b _h _w"], ...]  # finest level first
PerCode = tuple[Float[Array, "b _h _w"], ...]
Variables = Mapping[str, Any]


@dataclass(frozen=True)
class Drawing:
    """How codes are drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest code.
        top_k: draws among so many likeliest codes; 0 among all.
        top_p: draws among the likeliest codes that have this much of the probability together.
        guidance: weight g of the logits given the label, `(1 - g) none + g label`; 1 takes the
            label's alone, 0 draws without it.
        steps: rounds a level, for priors that draw many codes at once.

    Sources: top-p, Holtzman et al. (2020); guidance, Ho and Salimans (2022), equation 6 with w = g
    - 1, on logits.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    steps: int = 8

    @property
    def guides(self) -> bool:
        """Whether logits with and without the label are both needed."""
        return self.guidance not in (0, 1)

    def labels(self, labels: Int[Array, "b"], none: int) -> Int[Array, "r"]:
        """Labels of the rows to compute: `[b]`, or `[2b]` with and without the label.

        Args:
            labels: of the images.
            none: the label that stands for none.
        """
        without = jnp.full_like(labels, none)
        if self.guides:
            return jnp.concatenate([labels, without])
        return labels if self.guidance else without

    def rows(self, values: Int[Array, "b ..."]) -> Int[Array, "r ..."]:
        """Values of images for the rows to compute, see `labels`."""
        return jnp.concatenate([values, values]) if self.guides else values

    def merged(self, logits: Float[Array, "r ... k"]) -> Float[Array, "b ... k"]:
        """Logits of the images from those of the rows."""
        if not self.guides:
            return logits
        given, without = jnp.split(logits, 2)
        return without + self.guidance * (given - without)

    def chosen(self, keys: Key[Array, "b"], logits: Float[Array, "b *n k"]) -> Int[Array, "b *n"]:
        """Draws codes.

        Args:
            keys: of each image, so that what is drawn for it does not depend on others.
            logits: of the codes.
        """
        if not self.temperature:
            return jnp.argmax(logits, axis=-1)
        logits = self.filtered(logits / self.temperature)
        return jax.vmap(jax.random.categorical)(keys, logits)

    def filtered(self, logits: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
        """Logits with minus infinity for what `top_k`, then `top_p` leave out. Of several codes
        that are equally likely, those of the lowest numbers stay.
        """
        k = logits.shape[-1]
        if self.top_k in range(1, k):
            logits = jnp.where(_ranks(logits) < self.top_k, logits, -jnp.inf)
        if self.top_p < 1:
            ranks = _ranks(logits)
            likeliest_first = -jnp.sort(-jax.nn.softmax(logits), axis=-1)
            before = jnp.cumsum(likeliest_first, axis=-1) - likeliest_first
            kept = jnp.take_along_axis(before, ranks, axis=-1) < self.top_p
            logits = jnp.where(kept | (ranks == 0), logits, -jnp.inf)
        return logits


def _ranks(logits: Float[Array, "*b k"]) -> Int[Array, "*b k"]:
    """How many codes come before each, likeliest first."""
    return jnp.argsort(jnp.argsort(-logits, axis=-1, stable=True), axis=-1)


class PriorModule(nn.Module, ABC):
    """Contract of a prior.

    Attributes:
        grids: height and width by level, finest first.
        codebook_sizes: number of codes by level.
        classes: number of labels.
        exact: whether `nats` is the negative log-likelihood, not a bound of it.
    """

    grids: Grids
    codebook_sizes: tuple[int, ...]
    classes: int = 0
    width: int = setting(512, "channels of a prior", low=1, high=2**16)
    depth: int = setting(12, "blocks or layers of a prior", low=1, high=1000)
    dropout: float = setting(0.1, "share of units that training drops", low=0, high=0.99)
    code_dim: int = setting(64, "channels of an embedded code", low=1, high=2**16)
    dtype: Literal["float32", "bfloat16"] = setting(
        "float32", "compute type of matrix products", choices=("float32", "bfloat16")
    )
    exact: ClassVar[bool]

    @abstractmethod
    def nats(self, codes: Codes, labels: Int[Array, "b"], train: bool = False) -> PerCode:
        """Negative logarithm of the probability of each code given those before it, by level; or
        values whose sum has an expectation of at least that of the image. Random ones are drawn
        from the RNG 'mask', dropout in training from 'dropout'.
        """

    @abstractmethod
    def level_logits(
        self, level: int, codes: Codes, labels: Int[Array, "b"]
    ) -> Float[Array, "b h w k"]:
        """Logits of a level's codes, from those of coarser levels and those of its own that may be
        known by then; `places.UNKNOWN` stands for a code that is not known.
        """

    @abstractmethod
    @nn.nowrap
    def draw(
        self,
        variables: Variables,
        start: Codes,
        labels: Int[Array, "b"],
        keys: Key[Array, "b"],
        how: Drawing,
    ) -> Codes:
        """Draws the codes that are `places.UNKNOWN` in `start`, and keeps the others; traced. What
        is drawn for a row depends on its own key alone.
        """


def cross_entropy(logits: Sequence[Float[Array, "b _h _w _k"]], codes: Codes) -> PerCode:
    """Negative log-probability of codes, nats, by level."""

    def of_level(logits: Float[Array, "b h w k"], codes: Integer[Array, "b h w"]) -> Array:
        places = codes.astype(jnp.int32)[..., None]
        chosen = jnp.take_along_axis(logits, places, axis=-1)[..., 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

    return tuple(map(of_level, logits, codes))


def keys_at(keys: Key[Array, "b"], number: int | Int[Array, ""]) -> Key[Array, "b"]:
    """Keys of the images for one of their draws."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
