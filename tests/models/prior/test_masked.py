"""The masked prior: its order of levels, its rounds, and the bound of its likelihood."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.prior import Drawing
from avq.models.prior.masked import revealed
from avq.models.prior.places import UNKNOWN, to_grids, to_sequence

from .prior_helpers import BATCH, GRIDS, SIZES, codes, labels, small, unknown

KEYS = jax.random.split(jax.random.key(5), BATCH)


@pytest.fixture(scope="module")
def masked():
    module, variables = small("masked")
    return (
        jax.jit(
            lambda level, codes, some: module.apply(
                variables, level, codes, some, method="level_logits"
            ),
            static_argnums=0,
        ),
        module,
        variables,
    )


def test_coarse_logits_do_not_see_fine_codes_and_fine_ones_see_all_others(masked):
    logits, _, _ = masked
    fine, coarse = codes()
    other, _ = codes(seed=1)
    np.testing.assert_array_equal(
        logits(1, (fine, coarse), labels()), logits(1, (other, coarse), labels())
    )
    hidden = fine.at[:, 0, 0].set(UNKNOWN)
    before = logits(0, (hidden, coarse), labels())[:, 0, 0]
    for row, column in itertools.product(range(4), range(4)):
        changed = hidden.at[:, row, column].set((fine[:, row, column] + 1) % SIZES[0])
        if (row, column) != (0, 0):
            assert not np.array_equal(logits(0, (changed, coarse), labels())[:, 0, 0], before)
    for row, column in itertools.product(range(2), range(2)):
        changed = coarse.at[:, row, column].set((coarse[:, row, column] + 1) % SIZES[1])
        assert not np.array_equal(logits(0, (hidden, changed), labels())[:, 0, 0], before)


@pytest.mark.parametrize("rounds", [1, 4, 8, 40])
def test_rounds_fill_every_place_once_by_the_cosine(rounds):
    """Also where some places were filled before."""
    n = 16
    unknown = jnp.asarray([[True] * n, [True] * 5 + [False] * 11, [False] * n])
    missing = unknown.sum(axis=1)
    filled = np.zeros(unknown.shape, int)
    for number in range(rounds):
        confidence = jax.random.normal(jax.random.key(number), unknown.shape)
        new = revealed(unknown, confidence, missing, jnp.float32((number + 1) / rounds))
        assert not np.any(np.asarray(new) & ~np.asarray(unknown))
        # The surest are those that are filled.
        for row in range(len(unknown)):
            chosen, left = confidence[row][new[row]], confidence[row][unknown[row] & ~new[row]]
            assert not (chosen.size and left.size) or chosen.min() > left.max()
        filled += np.asarray(new)
        unknown = unknown & ~new
        planned = math.floor(n * math.cos(math.pi / 2 * (number + 1) / rounds) + 1e-6)
        if rounds <= 8 and number + 1 < rounds:
            assert int(unknown[0].sum()) == planned
    np.testing.assert_array_equal(filled, [[1] * n, [1] * 5 + [0] * 11, [0] * n])


def test_known_codes_stay_and_a_row_depends_on_its_own_key_alone(masked):
    _, module, variables = masked
    known = np.random.default_rng(1).random((BATCH, 20)) < 0.5
    start = to_grids(jnp.where(known, to_sequence(codes()), UNKNOWN), GRIDS)
    draw = jax.jit(
        lambda start, keys: module.draw(variables, start, labels(), keys, Drawing(steps=3))
    )
    drawn = np.asarray(to_sequence(draw(start, KEYS)))
    np.testing.assert_array_equal(drawn[known], np.asarray(to_sequence(codes()))[known])
    assert drawn.min() >= 0
    assert (drawn[:, :4].max() < SIZES[1], drawn[:, 4:].max() < SIZES[0]) == (True, True)
    whole = to_sequence(draw(unknown(), KEYS))
    other_keys = KEYS.at[1].set(jax.random.key(9))
    other = to_sequence(draw(unknown(), other_keys))
    np.testing.assert_array_equal(whole[0], other[0])
    assert not np.array_equal(whole[1], other[1])


def test_bound_is_the_mean_over_all_orders(masked):
    """Of the coarse level's four codes: the chain rule along each of their 24 orders."""
    logits, module, variables = masked
    one = tuple(level[:1] for level in codes())
    some = labels(1)
    orders = np.array(list(itertools.permutations(range(4))))
    total = np.zeros(len(orders))
    for done in range(4):
        partly = np.tile(np.asarray(one[1]).reshape(1, 4), (24, 1))
        np.put_along_axis(partly, orders[:, done:], UNKNOWN, axis=1)
        coarse = jnp.asarray(partly.reshape(24, 2, 2))
        fine = jnp.zeros((24, 4, 4), jnp.int32)
        flat = np.asarray(logits(1, (fine, coarse), some.repeat(24))).reshape(24, 4, -1)
        log_p = np.asarray(jax.nn.log_softmax(flat))
        place = orders[:, done]
        total -= log_p[np.arange(24), place, np.asarray(one[1]).reshape(4)[place]]
    many = tuple(level.repeat(20_000, axis=0) for level in one)
    nats = jax.jit(
        lambda: module.apply(
            variables, many, some.repeat(20_000), rngs={"mask": jax.random.key(0)}, method="nats"
        )[1]
    )()
    assert float(nats.sum(axis=(1, 2)).mean()) == pytest.approx(total.mean(), rel=0.01)
