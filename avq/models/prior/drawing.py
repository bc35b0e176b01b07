"""Drawing codes one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from avq.models.prior.base import Codes, Drawing, PriorModule, Variables, keys_at
from avq.models.prior.places import UNKNOWN, Grids, Span, spans, to_grids, to_sequence

# Logits of a place and the cache after it, from the codes so far, the cache, the place and its
# level's span.
LogitsAt = Callable[[Int[Array, "r n"], Any, Int[Array, ""], Span], tuple[Float[Array, "r k"], Any]]


def draw_in_order(
    logits_at: LogitsAt,
    start: Codes,
    grids: Grids,
    keys: Key[Array, "b"],
    how: Drawing,
    cache_of: Callable[[Any, Span], Any] = lambda cache, span: cache,
) -> Codes:
    """Draws codes in the order of a sequence, in one loop a level.

    Args:
        logits_at: of the rows that `how` asks for.
        start: codes, `UNKNOWN` where they are to be drawn.
        grids: height and width by level, finest first.
        keys: of the images.
        how: to draw.
        cache_of: what a level begins with, from the cache after the one before, None at first.
    """
    sequence, cache = to_sequence(start), None
    for span in spans(grids):

        def step(carry: Any, place: Array, span: Span = span) -> tuple[Any, None]:
            sequence, cache = carry
            logits, cache = logits_at(how.rows(sequence), cache, place, span)
            drawn = how.chosen(keys_at(keys, place), how.merged(logits))
            known = sequence[:, place]
            codes = jnp.where(known == UNKNOWN, drawn.astype(jnp.int32), known)
            return (sequence.at[:, place].set(codes), cache), None

        cache = cache_of(cache, span)
        places = jnp.arange(span.start, span.end)
        (sequence, cache), _ = lax.scan(step, (sequence, cache), places)
    return to_grids(sequence, grids)


def draw_without_cache(
    module: PriorModule,
    variables: Variables,
    start: Codes,
    labels: Int[Array, "b"],
    keys: Key[Array, "b"],
    how: Drawing,
) -> Codes:
    """Draws codes one after another, each from the logits of its whole level; see
    `PriorModule.draw`.
    """
    apply: Any = module
    labels = how.labels(labels, module.classes)

    def logits_at(sequence: Array, _: Any, place: Array, span: Span) -> tuple[Array, None]:
        codes = to_grids(sequence, module.grids)
        logits = apply.apply(variables, span.level, codes, labels, method="level_logits")
        flat = logits.reshape(len(sequence), -1, logits.shape[-1])
        return jax.lax.dynamic_index_in_dim(flat, place - span.start, axis=1, keepdims=False), None

    return draw_in_order(logits_at, start, module.grids, keys, how)
