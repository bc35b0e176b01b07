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
    gelu,
    rms_norm,
    softmax_sum,
    weights,
)
from avq.errors import InputError
from avq.models.prior import TransformerPrior
from avq.models.prior.places import coordinates, neighbours, relations, spans

Array64 = Float[np.ndarray, "..."]
Cache = list[tuple[Float[np.ndarray, "h n d"], Float[np.ndarray, "h n d"]]]  # keys and values


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
        rows, columns = coordinates(grids)
        tables = {name: weights(network[name]["embedding"]) for name in _TABLES}
        self._start = tables["rows"][rows] + tables["columns"][columns] + tables["labels"][-1]
        self._codes = fixed(tables["codes"])
        self._joined = Dense(network["joined"])
        self._bias = np.asarray(network["bias"], np.float64)
        self._blocks = [Block(network[f"blocks_{number}"]) for number in range(module.depth)]
        self._scale = np.asarray(network["norm"]["scale"], np.float64)
        levels = range(len(grids))
        self._logits = [Dense(network[f"heads_by_level_{level}"]) for level in levels]
        self._channels = module.width // module.heads

    def empty_cache(self) -> Cache:
        """Keys and values of a sequence, none of them known."""
        shape = self._heads, self._n, self._channels
        return [(np.zeros(shape), np.zeros(shape)) for _ in self._blocks]

    def logits(
        self, sequence: Int[np.ndarray, "n"], cache: Cache, level: int, start: int, stop: int
    ) -> Float[np.ndarray, "m k"]:
        """Logits of the codes at some places of a level, and their keys and values in the cache.

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
        for block, (keys, values) in zip(self._blocks, cache, strict=True):
            x = block(fixed(x), keys, values, bias, start)
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

    def __init__(self, params: Mapping[str, Any]) -> None:
        norms = (params["attention_norm"]["scale"], params["norm"]["scale"])
        self._scales = [np.asarray(scale, np.float64) for scale in norms]
        self._projections, self._output, self._up, self._down = (
            Dense(params[name]) for name in ("projections", "output", "up", "down")
        )

    def __call__(
        self,
        x: Float[np.ndarray, "m c"],
        keys: Float[np.ndarray, "h n d"],
        values: Float[np.ndarray, "h n d"],
        bias: Float[np.ndarray, "h m p"],
        start: int,
    ) -> Float[np.ndarray, "m c"]:
        """Places from `start` on, up to the last of those that `bias` has; writes their keys and
        values.
        """
        stop, (heads, _, channels) = bias.shape[2], keys.shape
        joined = fixed(self._projections(rms_norm(x, self._scales[0])))
        parts = joined.reshape(len(x), 3, heads, channels).transpose(1, 2, 0, 3)
        queries, keys[:, start:stop], values[:, start:stop] = parts
        logits = queries @ keys[:, :stop].transpose(0, 2, 1) / math.sqrt(channels) + bias
        attended = softmax_sum(logits, values[:, :stop]).transpose(1, 0, 2).reshape(x.shape)
        x = fixed(x + self._output(fixed(attended)))
        hidden = fixed(gelu(self._up(rms_norm(x, self._scales[1]))))
        result: Array64 = x + self._down(hidden)
        return result
