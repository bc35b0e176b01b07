"""Parts of the transformers: embedding of places, blocks, heads.

Source: Vaswani et al. (2017), with the norms before the layers (Xiong et al., 2020).
"""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from avq.models.prior.base import PriorModule
from avq.models.prior.places import (
    UNKNOWN,
    Grids,
    Offsets,
    coordinates,
    nearby,
    neighbours,
    relations,
    shifted,
    spans,
)
from avq.settings import setting

SCALE = 0.02  # standard deviation of initial embeddings, as GPT-2's
EXPANSION = 1.5  # hidden units of a block for each of its channels

# Keys and values of the places; after a row of zeros, the features that hidden layers read.
Cache = tuple[Float[Array, "b h m d"], Float[Array, "b h m d"], Float[Array, "b m1 c"]]


class Hidden(nn.Module):
    """Gated hidden layer of a place: `silu(a) * b` of the two halves of its units.

    Attributes:
        width: channels.
        depth: see `Block`.
        dtype: compute type.

    Source: Shazeer (2020), "GLU variants improve transformer".
    """

    width: int
    depth: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.up = nn.Dense(2 * int(EXPANSION * self.width), dtype=self.dtype)
        self.down = nn.Dense(self.width, dtype=self.dtype, kernel_init=_small(self.depth))

    def __call__(self, near: Float[Array, "b n _s"]) -> Float[Array, "b n c"]:
        """What is added to places, from the features near them."""
        a, b = jnp.split(self.up(near), 2, axis=-1)
        result: Array = self.down(nn.silu(a) * b)
        return result


def _small(depth: int) -> nn.initializers.Initializer:
    """Initial weights of what is added in such a number of blocks."""
    return nn.initializers.variance_scaling(0.5 / depth, "fan_in", "truncated_normal")


class Block(nn.Module):
    """Self-attention, and a hidden layer that reads the features of a place and of those beside it;
    both are added to their input. Each level has a hidden layer of its own.

    Attributes:
        grids: see `base.PriorModule`.
        near: offsets of the places that the hidden layer reads.
        width: channels, a multiple of `heads`.
        heads: attention heads.
        depth: number of blocks, by which additions are scaled down at the start.
        dropout: share of each addition that training drops.
        dtype: compute type; softmax and norms are float32.
    """

    grids: Grids
    near: Offsets
    width: int
    heads: int
    depth: int
    dropout: float
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.attention_norm, self.norm = nn.RMSNorm(), nn.RMSNorm()
        self.projections = nn.Dense(3 * self.width, use_bias=False, dtype=self.dtype)
        self.output = nn.Dense(self.width, dtype=self.dtype, kernel_init=_small(self.depth))
        self.hidden = [Hidden(self.width, self.depth, self.dtype) for _ in self.grids]
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self, x: Float[Array, "b n c"], bias: Float[Array, "h n n"], train: bool
    ) -> Float[Array, "b n c"]:
        """All places of whole levels at once; `bias` is added to the logits of attention."""
        queries, keys, values = self._projected(x)
        x += self.drop(self._joined(attend(queries, keys, values, bias)), deterministic=not train)
        near = shifted(self.norm(x), self.grids, self.near)
        parts = [
            self.hidden[level](near[:, start:end])
            for level, start, end in spans(self.grids)
            if end <= x.shape[1]
        ]
        x += self.drop(jnp.concatenate(parts, axis=1), deterministic=not train)
        return x

    def step(
        self,
        x: Float[Array, "b 1 c"],
        cache: Cache,
        level: int,
        place: Int[Array, ""],
        bias: Float[Array, "h 1 m"],
    ) -> tuple[Float[Array, "b 1 c"], Cache]:
        """One place, and the cache with what is known of it.

        Args:
            x: of the place.
            cache: of other places.
            level: of the place.
            place: in the cache.
            bias: of the place, minus infinity for places that it does not see.
        """
        queries, *own = self._projected(x)
        write = jax.lax.dynamic_update_slice_in_dim
        keys, values = (
            write(old, new, place, axis=2) for old, new in zip(cache[:2], own, strict=True)
        )
        x += self._joined(attend(queries, keys, values, bias))
        features = write(cache[2], self.norm(x), place + 1, axis=1)
        places = nearby(self.grids, self.near)
        rows = np.where(places < len(places), places + 1, 0)
        near = features[:, jnp.asarray(rows)[place]].reshape(len(x), 1, -1)
        return x + self.hidden[level](near), (keys, values, features)

    def _projected(self, x: Float[Array, "b n c"]) -> list[Float[Array, "b h n d"]]:
        b, n, _ = x.shape
        parts = self.projections(self.attention_norm(x)).reshape(b, n, 3, self.heads, -1)
        return list(jnp.moveaxis(parts, (2, 3), (0, 2)))

    def _joined(self, attended: Float[Array, "b h n d"]) -> Float[Array, "b n c"]:
        b, _, n, _ = attended.shape
        result: Array = self.output(attended.swapaxes(1, 2).reshape(b, n, -1))
        return result


def attend(
    queries: Float[Array, "b h n d"],
    keys: Float[Array, "b h m d"],
    values: Float[Array, "b h m d"],
    bias: Float[Array, "h n m"],
) -> Float[Array, "b h n d"]:
    """Softmax attention, with float32 logits to which a bias is added."""
    logits = jnp.einsum("bhnd,bhmd->bhnm", queries, keys, preferred_element_type=jnp.float32)
    logits = logits / math.sqrt(queries.shape[-1]) + bias[None]
    weights = jax.nn.softmax(logits).astype(values.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, values)


class Network(nn.Module):
    """A transformer over the places of a sequence.

    A place begins as a sum: a linear map of the embedded codes around it and of its parents, an
    embedding of its row and one of its column, both of their level, and one of the label. The
    logits of attention have a learned bias for each relation of two places and each head, which
    begins as a slope that falls with their distance.

    Attributes:
        grids, codebook_sizes, classes: see `base.PriorModule`.
        own: offsets of the codes around a place that are read at it.
        near: offsets of the places whose features a hidden layer reads.
        causal: whether a place sees those up to itself alone.
        width, depth, heads, dropout, dtype: see `Block`.
        code_dim: channels of an embedded code.
    """

    grids: Grids
    codebook_sizes: tuple[int, ...]
    classes: int
    own: Offsets
    near: Offsets
    causal: bool
    width: int
    depth: int
    heads: int
    dropout: float
    code_dim: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"model.heads={self.heads} does not divide model.width={self.width}")

        def embedding(count: int, width: int) -> nn.Embed:
            return nn.Embed(count, width, embedding_init=nn.initializers.normal(SCALE))

        height, across = (sum(sides) for sides in zip(*self.grids, strict=True))
        # The last two are an unknown code, and what lies outside the grid.
        self.codes = embedding(sum(self.codebook_sizes) + 2, self.code_dim)
        self.rows, self.columns = embedding(height, self.width), embedding(across, self.width)
        self.labels = embedding(self.classes + 1, self.width)
        self.joined = nn.Dense(self.width, dtype=self.dtype)
        self.relations, distances = relations(self.grids)
        self.bias = self.param("bias", _slopes, self.heads, distances)
        self.blocks = [
            Block(
                self.grids,
                self.near,
                self.width,
                self.heads,
                self.depth,
                self.dropout,
                self.dtype,
            )
            for _ in range(self.depth)
        ]
        self.norm = nn.RMSNorm()
        small = nn.initializers.normal(SCALE)
        self.heads_by_level = [
            nn.Dense(size, dtype=self.dtype, kernel_init=small) for size in self.codebook_sizes
        ]
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        sequence: Int[Array, "b n"],
        labels: Int[Array, "b"],
        train: bool,
    ) -> Float[Array, "b n c"]:
        """Features of the first `n` places, whole levels, of a sequence of that length."""
        x = self._embedded(sequence, labels, np.arange(sequence.shape[1]))
        x = self.drop(x, deterministic=not train)
        n = sequence.shape[1]
        bias = self.bias[:, self.relations[:n, :n]]
        if self.causal:
            bias = jnp.where(np.tri(n, dtype=bool)[None], bias, -jnp.inf)
        for block in self.blocks:
            x = block(x, bias, train)
        return x

    def step(
        self,
        sequence: Int[Array, "b n"],
        labels: Int[Array, "b"],
        cache: tuple[Cache, ...],
        level: int,
        place: Int[Array, ""],
    ) -> tuple[Float[Array, "b 1 c"], tuple[Cache, ...]]:
        """Features of one place of a level, which sees those before it, and the cache with its
        own.
        """
        x, caches = self._embedded(sequence, labels, place[None]), []
        places = np.arange(cache[0][0].shape[2])
        bias = self.bias[:, jnp.asarray(self.relations[:, places])[place][None]]
        bias = jnp.where((places <= place)[None, None], bias, -jnp.inf)
        for block, before in zip(self.blocks, cache, strict=True):
            x, after = block.step(x, before, level, place, bias)
            caches.append(after)
        return x, tuple(caches)

    def logits(self, level: int, features: Float[Array, "b n c"]) -> Float[Array, "b n k"]:
        """Float32 logits of a level's codes from features of its places."""
        logits: Array = self.heads_by_level[level](self.norm(features))
        return logits.astype(jnp.float32)

    def _embedded(
        self, sequence: Int[Array, "b n"], labels: Int[Array, "b"], places: Any
    ) -> Float[Array, "b m c"]:
        total = sum(self.codebook_sizes)
        ids = _numbered(sequence, self.grids, self.codebook_sizes)
        ids = jnp.pad(ids, ((0, 0), (0, 1)), constant_values=total + 1)
        around = np.minimum(neighbours(self.grids, self.own), sequence.shape[1])
        rows, columns = coordinates(self.grids)
        codes = self.codes(ids[:, jnp.asarray(around)[places]])
        x = self.joined(codes.reshape(*codes.shape[:2], -1))
        where = self.rows(jnp.asarray(rows)[places]) + self.columns(jnp.asarray(columns)[places])
        return x + where[None] + self.labels(labels)[:, None]


class NetworkPrior(PriorModule):
    """Base of priors that are a `Network`, of which they set `own`, `near` and `causal`."""

    heads: int = setting(8, "attention heads of a transformer; they divide width", low=1, high=1024)
    own: ClassVar[Offsets]
    near: ClassVar[Offsets]
    causal: ClassVar[bool]

    def setup(self) -> None:
        self.network = Network(
            self.grids,
            self.codebook_sizes,
            self.classes,
            self.own,
            self.near,
            self.causal,
            self.width,
            self.depth,
            self.heads,
            self.dropout,
            self.code_dim,
            jnp.dtype(self.dtype),
        )


def _slopes(key: Array, heads: int, distances: Float[np.ndarray, "r"]) -> Float[Array, "h r"]:
    """Bias to begin with: minus the distance, half as much for each further head."""
    return jnp.asarray(-np.outer(2.0 ** -np.arange(heads), distances), jnp.float32)


def _numbered(
    sequence: Int[Array, "b n"], grids: Grids, sizes: tuple[int, ...]
) -> Int[Array, "b n"]:
    """Codes of all levels counted through, and their number for an unknown one."""
    first = np.concatenate([np.full(end - start, sum(sizes[:n])) for n, start, end in spans(grids)])
    first = first[: sequence.shape[1]][None]
    return jnp.where(sequence == UNKNOWN, sum(sizes), sequence + first)
