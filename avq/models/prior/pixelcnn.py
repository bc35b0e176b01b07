"""Gated PixelCNN over the codes, a stack of convolutions for each level.

Source: van den Oord et al. (2016), "Conditional image generation with PixelCNN decoders", section 2
and figure 2. Kernels are cut to what comes before, instead of masked.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Integer, Key

from avq.models.prior.base import (
    Codes,
    Drawing,
    PerCode,
    PriorModule,
    Variables,
    cross_entropy,
)
from avq.models.prior.drawing import draw_without_cache
from avq.models.prior.places import UNKNOWN
from avq.settings import setting


def down(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Shifts rows down by one; zeros come in at the top."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))


def right(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Shifts columns to the right by one; zeros come in at the left."""
    return jnp.pad(x[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 0)))


def enlarged(x: Float[Array, "b _h _w e"], grid: tuple[int, int]) -> Float[Array, "b _H _W e"]:
    """Repeats pixels up to the height and width of a grid."""
    return x.repeat(grid[0] // x.shape[1], axis=1).repeat(grid[1] // x.shape[2], axis=2)


def gated(x: Float[Array, "b h w _"]) -> Float[Array, "b h w c"]:
    """Equation 2: `tanh(a) * sigmoid(b)` of the two halves of the channels."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.tanh(a) * nn.sigmoid(b)


class Layer(nn.Module):
    """A layer of both stacks: the vertical one sees the rows up to its own, the horizontal one the
    rows above and its own row up to itself.

    Attributes:
        width: channels.
        kernel: side of the convolutions before they are cut, odd.
        dropout: share of units that training drops.
        dtype: compute type.
    """

    width: int
    kernel: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        vertical: Float[Array, "b h w _v"],
        horizontal: Float[Array, "b h w _h"],
        condition: Float[Array, "b h w _c"],
        train: bool,
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """The vertical stack, and what is added to the horizontal one."""
        half, double = self.kernel // 2, 2 * self.width

        def conv(name: str, size: tuple[int, int], across: tuple[int, int]) -> nn.Conv:
            padding = ((size[0] - 1, 0), across)
            return nn.Conv(double, size, padding=padding, dtype=self.dtype, name=name)

        above = conv("vertical", (half + 1, self.kernel), (half, half))(vertical)
        beside = conv("horizontal", (1, half + 1), (half, 0))(horizontal)
        given = nn.Dense(2 * double, dtype=self.dtype, name="condition")(condition)
        of_vertical, of_horizontal = jnp.split(given, 2, axis=-1)
        joined = nn.Dense(double, dtype=self.dtype, name="joined")(down(above))
        drop = nn.Dropout(self.dropout, deterministic=not train)
        result = drop(gated(beside + joined + of_horizontal))
        return gated(above + of_vertical), result


class Stack(nn.Module):
    """Logits of a level's codes.

    Attributes:
        codebook_size: number of codes.
        depth: layers.
        width, kernel, dropout, dtype: see `Layer`.
    """

    codebook_size: int
    width: int
    depth: int
    kernel: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        own: Float[Array, "b h w _e"],
        coarser: Float[Array, "b h w _f"] | None,
        label: Float[Array, "b c"],
        train: bool,
    ) -> Float[Array, "b h w k"]:
        """Logits from embedded codes.

        Args:
            own: of the level; a place's logits depend on those before it.
            coarser: of all coarser levels, as large as the level; None for the coarsest.
            label: embedded label.
            train: whether to drop units.
        """
        _, h, w, _ = own.shape
        place = self.param("places", nn.initializers.normal(0.02), (h, w, self.width))
        condition = place[None] + label[:, None, None]
        if coarser is not None:
            condition += nn.Conv(self.width, (3, 3), dtype=self.dtype, name="coarser")(coarser)
        vertical, horizontal, total = own, right(own), jnp.zeros((), self.dtype)
        for number in range(self.depth):
            layer = Layer(self.width, self.kernel, self.dropout, self.dtype, name=f"layer{number}")
            vertical, result = layer(vertical, horizontal, condition, train)
            skip, update = jnp.split(
                nn.Dense(2 * self.width, dtype=self.dtype, name=f"output{number}")(result), 2, -1
            )
            horizontal = horizontal + update if number else update
            total = total + skip
        hidden = nn.relu(nn.Dense(self.width, dtype=self.dtype, name="hidden")(nn.relu(total)))
        logits: Array = nn.Dense(self.codebook_size, dtype=self.dtype, name="head")(hidden)
        return logits.astype(jnp.float32)


class PixelCNNPrior(PriorModule):
    """Predicts each code from those of its level above and to the left within reach of the
    convolutions, and from all coarser levels, whose embeddings are enlarged to its grid.
    """

    kernel: int = setting(
        3, "side of the convolutions of a PixelCNN, before they are cut; odd", low=1, high=99
    )
    exact = True

    def setup(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"model.kernel={self.kernel} is not odd")
        small = nn.initializers.normal(0.02)
        count = sum(self.codebook_sizes) + 1  # the last one is an unknown code
        self.codes = nn.Embed(count, self.code_dim, embedding_init=small)
        self.labels = nn.Embed(self.classes + 1, self.width, embedding_init=small)
        self.stacks = [
            Stack(size, self.width, self.depth, self.kernel, self.dropout, jnp.dtype(self.dtype))
            for size in self.codebook_sizes
        ]

    def nats(self, codes: Codes, labels: Int[Array, "b"], train: bool = False) -> PerCode:
        """Negative log-probability of each code given those before it."""
        levels = range(len(self.grids))
        logits = [self.level_logits(level, codes, labels, train) for level in levels]
        return cross_entropy(logits, codes)

    def level_logits(
        self, level: int, codes: Codes, labels: Int[Array, "b"], train: bool = False
    ) -> Float[Array, "b h w k"]:
        """Logits of a level's codes."""
        coarser = [
            enlarged(self._embedded(other, codes[other]), self.grids[level])
            for other in range(level + 1, len(self.grids))
        ]
        joined = jnp.concatenate(coarser, axis=-1) if coarser else None
        own = self._embedded(level, codes[level])
        logits: Array = self.stacks[level](own, joined, self.labels(labels), train)
        return logits

    def _embedded(self, level: int, codes: Integer[Array, "b h w"]) -> Float[Array, "b h w e"]:
        first, unknown = sum(self.codebook_sizes[:level]), sum(self.codebook_sizes)
        codes = codes.astype(jnp.int32)
        embedded: Array = self.codes(jnp.where(codes == UNKNOWN, unknown, codes + first))
        return embedded

    @nn.nowrap
    def draw(
        self,
        variables: Variables,
        start: Codes,
        labels: Int[Array, "b"],
        keys: Key[Array, "b"],
        how: Drawing,
    ) -> Codes:
        """See `PriorModule.draw`; the whole level is computed for each code."""
        return draw_without_cache(self, variables, start, labels, keys, how)
