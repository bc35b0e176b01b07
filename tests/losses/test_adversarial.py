"""Adversarial losses against their formulas in float64, and against their purpose."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.losses.adversarial import (
    ADVERSARIAL,
    feature_matching,
    gradient_penalty,
    lecam,
    updated_averages,
)

KINDS = ("non_saturating", "hinge", "least_squares")
GENERATOR = {kind: jax.jit(loss.generator) for kind, loss in ADVERSARIAL.items()}
DISCRIMINATOR = {kind: jax.jit(loss.discriminator) for kind, loss in ADVERSARIAL.items()}


def logits(*values):
    return jnp.asarray(values, jnp.float32).reshape(1, 1, -1, 1)


def generator_by_numpy(fake, kind):
    return {
        "non_saturating": lambda: np.mean(np.logaddexp(0, -fake)),
        "hinge": lambda: -np.mean(fake),
        "least_squares": lambda: np.mean(np.square(fake - 1)),
    }[kind]()


def discriminator_by_numpy(real, fake, kind):
    return {
        "non_saturating": lambda: np.mean(np.logaddexp(0, -real)) + np.mean(np.logaddexp(0, fake)),
        "hinge": lambda: np.mean(np.maximum(0, 1 - real)) + np.mean(np.maximum(0, 1 + fake)),
        "least_squares": lambda: np.mean(np.square(real - 1)) + np.mean(np.square(fake)),
    }[kind]()


def test_kinds_are_those_of_configs():
    assert tuple(ADVERSARIAL) == KINDS


@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["moderate", "large"])
@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_losses_are_their_formulas(kind, scale):
    real, fake = scale * np.random.default_rng(0).normal(size=(2, 2, 3, 4, 1)).astype(np.float32)
    actual = (
        GENERATOR[kind](jnp.asarray(fake)),
        DISCRIMINATOR[kind](real_logits=jnp.asarray(real), fake_logits=jnp.asarray(fake)),
    )
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    expected = generator_by_numpy(fake, kind), discriminator_by_numpy(real, fake, kind)
    chex.assert_shape(actual, ())
    chex.assert_type(actual, jnp.float32)
    chex.assert_trees_all_close(actual, jax.tree.map(np.float32, expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "generator", "discriminator"),
    [
        ("non_saturating", (100.0, 0.0), (200.0, 0.0)),
        ("hinge", (100.0, -100.0), (202.0, 0.0)),
        ("least_squares", (101.0**2, 99.0**2), (101.0**2 + 100.0**2, 99.0**2 + 100.0**2)),
    ],
)
def test_losses_of_a_fooled_and_of_a_certain_player(kind, generator, discriminator):
    low, high = logits(-100, -100), logits(100, 100)
    actual = (
        [GENERATOR[kind](fake) for fake in (low, high)],
        [
            DISCRIMINATOR[kind](real_logits=real, fake_logits=fake)
            for real, fake in ((low, high), (high, low))
        ],
    )
    expected = jax.tree.map(jnp.float32, ([*generator], [*discriminator]))
    chex.assert_trees_all_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-0.5, 0.0, 0.5])
def test_each_player_is_pushed_its_own_way(kind, value):
    real = fake = logits(value, value)
    generator = jax.grad(ADVERSARIAL[kind].generator)(fake)
    to_real, to_fake = jax.grad(ADVERSARIAL[kind].discriminator, (0, 1))(real, fake)
    assert jnp.all(generator < 0)  # a step down the loss raises the logits of generated patches
    assert jnp.all(to_real < 0)
    if kind == "least_squares":  # its target for a generated patch is 0, from both sides
        chex.assert_trees_all_equal(jnp.sign(to_fake), jnp.sign(fake))
    else:
        assert jnp.all(to_fake > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_large_logits(kind):
    real = fake = logits(-100, 100)

    def losses(real, fake):
        return ADVERSARIAL[kind].generator(fake) + ADVERSARIAL[kind].discriminator(real, fake)

    chex.assert_tree_all_finite(jax.jit(jax.grad(losses, (0, 1)))(real, fake))


def test_cross_entropy_of_an_undecided_discriminator_is_the_sum_of_two_log_two():
    loss = DISCRIMINATOR["non_saturating"](logits(0, 0), logits(0, 0))
    chex.assert_trees_all_close(loss, jnp.float32(2 * np.log(2)), rtol=1e-6)


def test_gradient_penalty_of_linear_logits_is_half_their_squared_slope():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3, 3)), jnp.float32)
    slope = np.random.default_rng(1).normal(size=(2, 3, 3)).astype(np.float32)

    def logits(x):  # two patches with opposite halves of the slope, and a bend that cancels
        along = jnp.einsum("bhwc,hwc->b", x, slope)[:, None, None, None]
        return jnp.concatenate([2 * along + 1, 0 * along], axis=1)

    expected = np.sum(slope**2) / 2
    assert float(gradient_penalty(logits, images)) == pytest.approx(expected, rel=1e-5)


def test_feature_matching_is_the_sum_over_layers_of_mean_absolute_differences():
    rng = np.random.default_rng(0)
    real, fake = [
        tuple(rng.normal(size=s).astype(np.float32) for s in ((2, 4, 3, 5), (2, 2, 2, 7)))
        for _ in range(2)
    ]
    expected = sum(
        np.mean(np.abs(a.astype(np.float64) - b)) for a, b in zip(real, fake, strict=True)
    )
    actual = feature_matching(*jax.tree.map(jnp.asarray, (real, fake)))
    chex.assert_trees_all_close(actual, np.float32(expected), rtol=1e-5)


def test_feature_matching_of_bfloat16_features_is_taken_in_float32():
    real = jnp.full((1, 16, 64, 3), 0.5, jnp.bfloat16)
    actual = feature_matching((real,), (real + jnp.bfloat16(2**-8),))
    chex.assert_type(actual, jnp.float32)
    chex.assert_trees_all_close(actual, jnp.float32(2**-8), rtol=1e-6)


AVERAGES = {"real": jnp.float32(2.0), "fake": jnp.float32(-1.0)}


def test_lecam_squares_distances_to_the_average_of_the_other_side():
    # Real logits lie 4, 1 and -1 above the fake average, fake ones 5, 2 and -1 below the real one.
    actual = lecam(logits(3, 0, -2), logits(-3, 0, 3), AVERAGES)
    chex.assert_trees_all_close(actual, jnp.float32((16 + 1) / 3 + (25 + 4) / 3), rtol=1e-6)


def test_lecam_pulls_logits_back_to_the_other_side():
    real, fake = logits(3, -2), logits(-3, 3)
    to_real, to_fake = jax.grad(lecam, (0, 1))(real, fake, AVERAGES)
    chex.assert_trees_all_close(to_real, logits(4, 0), rtol=1e-6)
    chex.assert_trees_all_close(to_fake, logits(-5, 0), rtol=1e-6)


def test_averages_of_logits_move_by_a_hundredth():
    actual = updated_averages(AVERAGES, logits(3, 0, -6), logits(-3, 0, 9))
    expected = {"real": 0.99 * 2 - 0.01, "fake": -0.99 + 0.02}
    chex.assert_trees_all_close(actual, jax.tree.map(jnp.float32, expected), rtol=1e-6)


def test_averages_of_a_batch_are_the_mean_of_those_of_its_parts():
    real, fake = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 3, 3, 1)), jnp.float32)
    parts = [updated_averages(AVERAGES, real[i::4], fake[i::4]) for i in range(4)]
    expected = jax.tree.map(lambda *values: sum(values) / 4, *parts)
    chex.assert_trees_all_close(updated_averages(AVERAGES, real, fake), expected, rtol=1e-5)
