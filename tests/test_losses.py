"""Losses against their formulas in float64, and against what they are for."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from avq.losses import discriminator_loss, generator_loss, mean_absolute_error

KINDS = ("non_saturating", "hinge", "least_squares")
jitted_generator_loss = jax.jit(generator_loss, static_argnames="kind")
jitted_discriminator_loss = jax.jit(discriminator_loss, static_argnames="kind")


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


@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["moderate", "large"])
@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_losses_are_their_formulas(kind, scale):
    real, fake = scale * np.random.default_rng(0).normal(size=(2, 2, 3, 4, 1)).astype(np.float32)
    actual = (
        jitted_generator_loss(fake_logits=jnp.asarray(fake), kind=kind),
        jitted_discriminator_loss(
            real_logits=jnp.asarray(real), fake_logits=jnp.asarray(fake), kind=kind
        ),
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
        [jitted_generator_loss(fake_logits=fake, kind=kind) for fake in (low, high)],
        [
            jitted_discriminator_loss(real_logits=real, fake_logits=fake, kind=kind)
            for real, fake in ((low, high), (high, low))
        ],
    )
    expected = jax.tree.map(jnp.float32, ([*generator], [*discriminator]))
    chex.assert_trees_all_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-0.5, 0.0, 0.5])
def test_each_player_is_pushed_its_own_way(kind, value):
    real = fake = logits(value, value)
    generator = jax.grad(lambda fake: generator_loss(fake_logits=fake, kind=kind))(fake)
    to_real, to_fake = jax.grad(
        lambda real, fake: discriminator_loss(real_logits=real, fake_logits=fake, kind=kind), (0, 1)
    )(real, fake)
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
        generator = generator_loss(fake_logits=fake, kind=kind)
        return generator + discriminator_loss(real_logits=real, fake_logits=fake, kind=kind)

    chex.assert_tree_all_finite(jax.jit(jax.grad(losses, (0, 1)))(real, fake))


def test_cross_entropy_of_an_undecided_discriminator_is_the_sum_of_two_log_two():
    loss = jitted_discriminator_loss(real_logits=logits(0, 0), fake_logits=logits(0, 0))
    chex.assert_trees_all_close(loss, jnp.float32(2 * np.log(2)), rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [generator_loss, partial(discriminator_loss, real_logits=logits(0))]
)
def test_unknown_kind_is_refused_by_name(loss, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a user runs without it
    with pytest.raises(ValueError, match="'wasserstein' is not one of"):
        loss(fake_logits=logits(0), kind="wasserstein")


def test_mean_absolute_error_is_numpys():
    images, targets = np.random.default_rng(0).uniform(-1, 1, (2, 2, 3, 5, 3)).astype(np.float32)
    actual = jax.jit(mean_absolute_error)(images=jnp.asarray(images), targets=jnp.asarray(targets))
    expected = np.mean(np.abs(images.astype(np.float64) - targets)).astype(np.float32)
    chex.assert_shape(actual, ())
    chex.assert_trees_all_close(actual, expected, rtol=1e-6)


def test_mean_absolute_error_of_bfloat16_images_is_taken_in_float32():
    images = jnp.full((1, 16, 64, 3), 0.5, jnp.bfloat16)
    targets = images + jnp.bfloat16(2**-8)
    actual = jax.jit(mean_absolute_error)(images=images, targets=targets)
    chex.assert_type(actual, jnp.float32)
    chex.assert_trees_all_close(actual, jnp.float32(2**-8), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (1, 4, 4, 3), (2, 4, 3)])
def test_shape_mismatch_is_refused(shape):
    with pytest.raises(jaxtyping.TypeCheckError):
        jax.jit(mean_absolute_error)(images=jnp.zeros((2, 4, 4, 3)), targets=jnp.zeros(shape))
