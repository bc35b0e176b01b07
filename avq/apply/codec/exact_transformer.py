"""A transformer prior whose probabilities are the same bits on every machine."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from avq.apply.codec.exact import (
    MAX_TERMS,
    are_exact,
    fixed,
    rms_norm,
    silu,
    softmax_sum,
    weights,
)
from avq.errors import InputError
from avq.models.prior import TransformerPrior
from avq.models.prior.places import coordinates, nearby, neighbours, relations, spans

Array64 = Float[np.ndarray, "..."]
# Keys and values of a block's places, and what its hidden layer reads, after them a row of zeros.
Kept = tuple[Float[np.ndarray, "h n d"], Float[np.ndarray, "h n d"], Float[np.ndarray, "n1 c"]]
Cache = list[Kept]


class ExactTransformer:
    """Logits of `avq.models.prior.TransformerPrior` of no class, by the operations of `exact.py`:
    those of a place do not depend on how many are computed at a time.

    Args:
        module: the prior.
        params: of it; their weights are rounded.

    Raises:
        InputError: for weights so large that sums would not be exact.
    """

    def __init__(self, module: TransformerPrior, params: Mapping[str, Any]) -> None:
        network, grids = params["network"], module.grids
        if module.width > MAX_TERMS:
            raise InputError(f"model.width={module.width} is over {MAX_TERMS}, the codec's limit.")
        self.grids, self.codebook_sizes = grids, module.codebook_sizes
        self._heads, self._n = module.heads, spans(grids)[-1].end
        parts, starts = spans(grids), np.cumsum((0, *module.codebook_sizes))
        self._first = np.concatenate([np.full(p.end - p.start, starts[p.level]) for p in parts])
        self._outside = starts[-1] + 1
        self._around, (self._relations, _) = neighbours(grids, module.own), relations(grids)
        self._near = nearby(grids, module.near)
        rows, columns = coordinates(grids)
        tables = {name: weights(network[name]["embedding"]) for name in _TABLES}
        self._start = tables["rows"][rows] + tables["columns"][columns] + tables["labels"][-1]
        self._codes = fixed(tables["codes"])
        self._joined = Dense(network["joined"])
        self._bias = np.asarray(network["bias"], np.float64)
        levels = range(len(grids))
        self._blocks = [
            Block(network[f"blocks_{number}"], len(levels)) for number in range(module.depth)
        ]
        self._scale = np.asarray(network["norm"]["scale"], np.float64)
        self._logits = [Dense(network[f"heads_by_level_{level}"]) for level in levels]
        self._width = module.width

    def empty_cache(self) -> Cache:
        """What is kept of a sequence of which no place is known."""
        shape = self._heads, self._n, self._width // self._heads
        features = self._n + 1, self._width
        return [(np.zeros(shape), np.zeros(shape), np.zeros(features)) for _ in self._blocks]

    def logits(
        self, sequence: Int[np.ndarray, "n"], cache: Cache, level: int, start: int, stop: int
    ) -> Float[np.ndarray, "m k"]:
        """Logits of the codes at some places of a level, which are then in the cache.

        Args:
            sequence: codes of the image, see `places.to_sequence`; only those before each place are
                read.
            cache: of the places before.
            level: of the places.
            start, stop: the places.
        """
        ids = np.append(sequence + self._first, self._outside)[self._around[start:stop]]
        x = self._joined(self._codes[ids].reshape(stop - start, -1)) + self._start[start:stop]
        unseen = np.arange(stop)[None] > np.arange(start, stop)[:, None]
        bias = self._bias[:, self._relations[start:stop, :stop]]
        bias = np.where(unseen, -np.inf, bias)
        for block, kept in zip(self._blocks, cache, strict=True):
            x = block(fixed(x), kept, level, bias, self._near[start:stop])
        return self._logits[level](rms_norm(fixed(x), self._scale))


_TABLES = "codes", "rows", "columns", "labels"


class Dense:
    """A linear map with rounded weights.

    Raises:
        InputError: for weights so large that sums would not be exact.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._kernel = weights(np.asarray(params["kernel"]))
        self._bias = weights(np.asarray(params["bias"])) if "bias" in params else np.zeros(1)
        if not are_exact(self._kernel):
            raise InputError("the prior's weights are too large for the codec.")

    def __call__(self, x: Float[np.ndarray, "m n"]) -> Array64:
        """The map of what is `fixed`."""
        result: Array64 = x @ self._kernel + self._bias
        return result


class Block:
    """See `avq.models.prior.blocks.Block`."""

    def __init__(self, params: Mapping[str, Any], levels: int) -> None:
        norms = (params["attention_norm"]["scale"], params["norm"]["scale"])
        self._scales = [np.asarray(scale, np.float64) for scale in norms]
        self._projections, self._output = Dense(params["projections"]), Dense(params["output"])
        hidden = [params[f"hidden_{level}"] for level in range(levels)]
        self._hidden = [(Dense(one["up"]), Dense(one["down"])) for one in hidden]

    def __call__(
        self,
        x: Float[np.ndarray, "m c"],
        kept: Kept,
        level: int,
        bias: Float[np.ndarray, "h m p"],
        near: Int[np.ndarray, "m s"],
    ) -> Float[np.ndarray, "m c"]:
        """The last of the places that `bias` has, which are kept then.

        Args:
            x: of the places.
            kept: of the places before.
            level: of the places.
            bias: of attention.
            near: rows of what the hidden layer reads.
        """
        (keys, values, features), stop, count = kept, bias.shape[2], len(x)
        heads, _, channels = keys.shape
        new = slice(stop - count, stop)
        joined = fixed(self._projections(rms_norm(x, self._scales[0])))
        parts = joined.reshape(count, 3, heads, channels).transpose(1, 2, 0, 3)
        queries, keys[:, new], values[:, new] = parts
        logits = queries @ keys[:, :stop].transpose(0, 2, 1) / math.sqrt(channels) + bias
        attended = softmax_sum(logits, values[:, :stop]).transpose(1, 0, 2).reshape(x.shape)
        x = fixed(x + self._output(fixed(attended)))
        features[new] = rms_norm(x, self._scales[1])
        up, down = self._hidden[level]
        a, b = np.split(up(features[near].reshape(count, -1)), 2, axis=-1)
        result: Array64 = x + down(fixed(silu(a) * b))
        return result
