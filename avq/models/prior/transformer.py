"""A decoder-only transformer over the codes of all levels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from avq.models.prior.base import Codes, Drawing, PerCode, Variables, cross_entropy
from avq.models.prior.blocks import NetworkPrior
from avq.models.prior.drawing import draw_in_order
from avq.models.prior.places import BEFORE, HERE_AND_BEFORE, Span, spans, to_sequence


class TransformerPrior(NetworkPrior):
    """Predicts each code from all codes before it, coarsest level first, row by row.

    What is read at a place are not the codes there, which is to be predicted, but those around it
    that come before, its parents among them; see `Network`.
    """

    own = BEFORE
    near = HERE_AND_BEFORE
    causal = True
    exact = True

    def __call__(
        self, codes: Codes, labels: Int[Array, "b"], train: bool = False
    ) -> tuple[Float[Array, "b _h _w _k"], ...]:
        """Logits of all levels, finest first."""
        features = self.network(to_sequence(codes), labels, train)
        return tuple(self._logits(features, span) for span in sorted(spans(self.grids)))

    def nats(self, codes: Codes, labels: Int[Array, "b"], train: bool = False) -> PerCode:
        """Negative log-probability of each code given those before it."""
        return cross_entropy(self(codes, labels, train), codes)

    def level_logits(
        self, level: int, codes: Codes, labels: Int[Array, "b"]
    ) -> Float[Array, "b h w k"]:
        """Logits of a level's codes."""
        span = sorted(spans(self.grids))[level]
        features = self.network(to_sequence(codes)[:, : span.end], labels, train=False)
        return self._logits(features, span)

    def _logits(self, features: Float[Array, "b n c"], span: Span) -> Float[Array, "b h w k"]:
        logits = self.network.logits(span.level, features[:, span.start : span.end])
        return logits.reshape(len(logits), *self.grids[span.level], -1)

    def step(
        self,
        level: int,
        sequence: Int[Array, "b n"],
        labels: Int[Array, "b"],
        cache: Any,
        place: Int[Array, ""],
    ) -> tuple[Float[Array, "b k"], Any]:
        """Logits of the code at a place of a level, and the cache with that place."""
        features, cache = self.network.step(sequence, labels, cache, level, place)
        return self.network.logits(level, features)[:, 0], cache

    @nn.nowrap
    def draw(
        self,
        variables: Variables,
        start: Codes,
        labels: Int[Array, "b"],
        keys: Key[Array, "b"],
        how: Drawing,
    ) -> Codes:
        """See `PriorModule.draw`; what is known of the places before is kept."""
        labels = how.labels(labels, self.classes)

        def logits_at(sequence: Array, cache: Any, place: Array, span: Span) -> tuple[Array, Any]:
            arguments = span.level, sequence, labels, cache, place
            result: tuple[Array, Any] = self.apply(variables, *arguments, method="step")
            return result

        def cache_of(cache: Any, span: Span) -> Any:
            if cache is None:
                rows, channels = len(labels), self.width // self.heads
                none = jnp.zeros_like(
                    labels, jnp.dtype(self.dtype), (rows, self.heads, 0, channels)
                )
                features = jnp.zeros_like(labels, jnp.float32, (rows, 1, self.width))
                cache = ((none, none, features),) * self.depth
            more = (0, span.end - span.start), (0, 0)
            return jax.tree.map(
                lambda kept: jnp.pad(kept, [*((0, 0),) * (kept.ndim - 2), *more]), cache
            )

        return draw_in_order(logits_at, start, self.grids, keys, how, cache_of)
