"""Priors that draw one code after another: what a code depends on, and the cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.prior import Drawing
from avq.models.prior.base import keys_at
from avq.models.prior.drawing import draw_without_cache
from avq.models.prior.places import UNKNOWN, to_grids, to_sequence

from .prior_helpers import BATCH, CLASSES, GRIDS, SIZES, codes, labels, small, unknown

KINDS = ["transformer", "pixelcnn"]
N = 20  # places of a sequence
KEYS = jax.random.split(jax.random.key(5), BATCH)


@pytest.fixture(scope="module", params=KINDS)
def prior(request):
    return small(request.param)


def all_logits(module, variables, codes, labels):
    """Logits of each place in the order of a sequence, as lists of arrays `[b, k]`."""
    levels = [
        module.apply(variables, level, codes, labels, method="level_logits")
        for level in reversed(range(len(GRIDS)))
    ]
    return [
        x for level in levels for x in level.reshape(len(level), -1, level.shape[-1]).swapaxes(0, 1)
    ]


def test_a_code_changes_no_logit_up_to_its_own_and_every_code_changes_a_later_one(prior):
    module, variables = prior
    sequence = to_sequence(codes())
    logits = jax.jit(lambda s: all_logits(module, variables, to_grids(s, GRIDS), labels()))
    before = logits(sequence)
    for place in range(N):
        size = SIZES[1] if place < 4 else SIZES[0]
        changed = sequence.at[:, place].set((sequence[:, place] + 1) % size)
        after = logits(changed)
        same = [bool(jnp.array_equal(x, y)) for x, y in zip(before, after, strict=True)]
        assert all(same[: place + 1])
        assert place == N - 1 or not all(same)


def test_likelihoods_of_all_images_of_two_codes_add_up_to_one(prior):
    """Of the last two codes, given all others."""
    module, variables = prior
    pairs = np.stack(np.meshgrid(np.arange(5), np.arange(5))).reshape(2, -1).T
    sequence = to_sequence(codes(count=1)).repeat(25, 0).at[:, -2:].set(jnp.asarray(pairs))
    nats = jax.jit(
        lambda: module.apply(
            variables, to_grids(sequence, GRIDS), jnp.zeros(25, jnp.int32), method="nats"
        )
    )()
    assert float(jnp.exp(-to_sequence_of_floats(nats)[:, -2:].sum(1)).sum()) == pytest.approx(
        1, abs=1e-5
    )


def to_sequence_of_floats(levels):
    return jnp.concatenate([level.reshape(len(level), -1) for level in reversed(levels)], axis=1)


def test_nats_are_those_of_the_logits(prior):
    module, variables = prior
    nats, logits = jax.jit(
        lambda: (
            to_sequence_of_floats(module.apply(variables, codes(), labels(), method="nats")),
            all_logits(module, variables, codes(), labels()),
        )
    )()
    for place, (each, code) in enumerate(zip(logits, to_sequence(codes()).T, strict=True)):
        expected = -np.log(np.asarray(jax.nn.softmax(each))[np.arange(BATCH), np.asarray(code)])
        np.testing.assert_allclose(nats[:, place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [Drawing(), Drawing(temperature=0.0), Drawing(guidance=2.5, top_k=3)],
    ids=["plain", "greedy", "guided"],
)
def test_drawing_is_choosing_each_code_by_its_logits(prior, how):
    """One code after another, in numpy's loop, with what is known before."""
    module, variables = prior
    drawn = jax.jit(lambda: module.draw(variables, unknown(), labels(), KEYS, how))()
    sequence = to_sequence(unknown())
    rows = how.labels(labels(), CLASSES)
    logits = jax.jit(lambda s: all_logits(module, variables, to_grids(s, GRIDS), rows))
    for place in range(N):
        each = how.merged(logits(how.rows(sequence))[place])
        sequence = sequence.at[:, place].set(how.chosen(keys_at(KEYS, place), each))
    np.testing.assert_array_equal(to_sequence(drawn), sequence)
    by_levels = jax.jit(
        lambda: draw_without_cache(module, variables, unknown(), labels(), KEYS, how)
    )()
    np.testing.assert_array_equal(to_sequence(by_levels), sequence)


def test_known_codes_stay_and_the_others_are_drawn(prior):
    module, variables = prior
    known = np.random.default_rng(1).random((BATCH, N)) < 0.5
    start = jnp.where(known, to_sequence(codes()), UNKNOWN)
    drawn = jax.jit(
        lambda: module.draw(variables, to_grids(start, GRIDS), labels(), KEYS, Drawing())
    )()
    drawn = np.asarray(to_sequence(drawn))
    np.testing.assert_array_equal(drawn[known], np.asarray(to_sequence(codes()))[known])
    assert drawn.min() >= 0
    assert drawn[:, :4].max() < SIZES[1]
    assert drawn[:, 4:].max() < SIZES[0]
