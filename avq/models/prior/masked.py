"""A masked transformer, which draws many codes at once.

Sources: Chang et al. (2022), "MaskGIT", section 3; for the bound, Hoogeboom et al. (2022),
"Autoregressive diffusion models", equation 4.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from avq.models.prior.base import Codes, Drawing, PerCode, Variables, cross_entropy, keys_at
from avq.models.prior.blocks import NetworkPrior
from avq.models.prior.places import (
    ALL_AROUND,
    HERE_AND_BESIDE,
    UNKNOWN,
    Span,
    spans,
    to_grids,
    to_sequence,
)

NOISE = 4.5  # of the confidence in the first round, MaskGIT's choice temperature


class MaskedPrior(NetworkPrior):
    """Predicts the masked codes of a level from its other codes and all coarser levels.

    A level's codes may come in any order. Their likelihood is the mean over all orders, and `nats`
    estimates an upper bound of its negative logarithm.
    """

    own = ALL_AROUND
    near = HERE_AND_BESIDE
    causal = False
    exact = False

    def nats(self, codes: Codes, labels: Int[Array, "b"], train: bool = False) -> PerCode:
        """Estimate of a bound: of each level, from 1 to all n codes are masked, each number m as
        often, and the masked ones count n/m times their negative log-probability.
        """
        result, codes = [], jax.tree.map(lambda grid: grid.astype(jnp.int32), codes)
        for level, grid in enumerate(codes):
            n = grid.shape[1] * grid.shape[2]
            number, order = jax.random.split(self.make_rng("mask"))
            masked = jax.random.randint(number, (len(grid), 1), 1, n + 1)
            places = jax.random.uniform(order, (len(grid), n))
            mask = (_ranks(places) < masked).reshape(grid.shape)
            partly = (*codes[:level], jnp.where(mask, UNKNOWN, grid), *codes[level + 1 :])
            logits = self.level_logits(level, partly, labels, train)
            (nats,) = cross_entropy([logits], (grid,))
            result.append(jnp.where(mask, nats * (n / masked)[..., None], 0.0))
        return tuple(result)

    def level_logits(
        self, level: int, codes: Codes, labels: Int[Array, "b"], train: bool = False
    ) -> Float[Array, "b h w k"]:
        """Logits of a level's codes; those of a known one are of no use."""
        _, start, end = sorted(spans(self.grids))[level]
        features = self.network(to_sequence(codes)[:, :end], labels, train)
        logits = self.network.logits(level, features[:, start:])
        return logits.reshape(len(logits), *self.grids[level], -1)

    @nn.nowrap
    def draw(
        self,
        variables: Variables,
        start: Codes,
        labels: Int[Array, "b"],
        keys: Key[Array, "b"],
        how: Drawing,
    ) -> Codes:
        """See `PriorModule.draw`. A level takes `how.steps` rounds. Each draws all its missing
        codes and keeps those of the highest probability, so many that cos(pi/2 t) of them are
        missing after a share t of the rounds.
        """
        sequence, rows = to_sequence(start), how.labels(labels, self.classes)
        for span in spans(self.grids):
            missing = jnp.sum(sequence[:, span.start : span.end] == UNKNOWN, axis=1)

            def one_round(
                sequence: Array, number: Array, span: Span = span, missing: Array = missing
            ) -> tuple[Array, None]:
                codes = to_grids(how.rows(sequence), self.grids)
                logits: Any = self.apply(variables, span.level, codes, rows, method="level_logits")
                flat = how.merged(logits.reshape(len(rows), span.end - span.start, -1))
                own = sequence[:, span.start : span.end]
                own = _kept(own, flat, missing, keys_at(keys, span.start + number), number, how)
                return sequence.at[:, span.start : span.end].set(own), None

            sequence, _ = lax.scan(one_round, sequence, jnp.arange(how.steps))
        return to_grids(sequence, self.grids)


def _kept(
    codes: Int[Array, "b n"],
    logits: Float[Array, "b n k"],
    missing: Int[Array, "b"],
    keys: Key[Array, "b"],
    number: Int[Array, ""],
    how: Drawing,
) -> Int[Array, "b n"]:
    """Codes of a level after a round.

    Args:
        codes: before it.
        logits: of all places.
        missing: codes that were so before the first round.
        keys: of the images in this round.
        number: of the round, from 0 on.
        how: to draw.
    """
    drawn = how.chosen(keys_at(keys, 0), logits).astype(jnp.int32)
    likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[..., None], axis=-1)[..., 0]
    share = (number + 1).astype(jnp.float32) / how.steps
    noise = jax.vmap(lambda key: jax.random.gumbel(key, codes.shape[1:]))(keys_at(keys, 1))
    confidence = likelihood + NOISE * how.temperature * (1 - share) * noise
    unknown = codes == UNKNOWN
    return jnp.where(unknown & revealed(unknown, confidence, missing, share), drawn, codes)


def revealed(
    unknown: Bool[Array, "b n"],
    confidence: Float[Array, "b n"],
    missing: Int[Array, "b"],
    share: Float[Array, ""],
) -> Bool[Array, "b n"]:
    """Places that a round fills: at least one where any is left, and all in the last.

    Args:
        unknown: places that are not filled yet.
        confidence: of what was drawn for each place.
        missing: number of places to fill in all rounds.
        share: of the rounds that are done after this one.
    """
    left = unknown.sum(axis=1)
    planned = jnp.floor(missing.astype(jnp.float32) * jnp.cos(math.pi / 2 * share))
    planned = jnp.where(share < 1, planned, 0.0).astype(jnp.int32)
    after = jnp.minimum(planned, jnp.maximum(left - 1, 0))
    ranks = _ranks(jnp.where(unknown, -confidence, jnp.inf))
    return ranks < (left - after)[:, None]


def _ranks(values: Float[Array, "b n"]) -> Int[Array, "b n"]:
    """How many values of a row are smaller than each."""
    return jnp.argsort(jnp.argsort(values, axis=1), axis=1)
