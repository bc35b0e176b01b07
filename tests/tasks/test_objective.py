"""Generator and discriminator losses as sums of their parts."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq import losses
from avq.losses import Loss
from avq.models.quantizers import CodebookStatistics, Quantized
from avq.models.vqvae import Reconstruction
from avq.tasks.objective import Objective

FROZEN = {"pixel_variance": 0.5}


def outputs():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    grid = jnp.zeros((2, 1, 1), jnp.int32)
    statistics = CodebookStatistics(jnp.ones(1))
    losses = (jnp.float32(0.25), jnp.float32(0.5))
    levels = [Quantized(grid[..., None] * 1.0, grid, loss, statistics) for loss in losses]
    return Reconstruction(images, tuple(levels))


TARGETS = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, 4, 4, 3)), jnp.float32)
LOGITS = jnp.asarray(np.random.default_rng(2).normal(size=(2, 2, 2, 1)), jnp.float32)
MAE = float(np.mean(np.abs(np.asarray(outputs().images) - np.asarray(TARGETS))))


@pytest.mark.parametrize(("on", "weight"), [(1.0, 0.1), (0.0, 0.1), (1.0, 3.0)])
def test_generator_loss_is_error_plus_quantisation_plus_weighted_adversary(on, weight):
    objective = Objective(Loss(adversarial_weight=weight))
    loss, metrics = objective.generator_loss(
        outputs(), TARGETS, lambda _: (LOGITS, ()), jnp.float32(on), FROZEN
    )
    adversarial = np.mean(np.log1p(np.exp(-np.asarray(LOGITS))))
    np.testing.assert_allclose(metrics["mae_over_var"], MAE / 0.5, rtol=1e-5)
    np.testing.assert_allclose(metrics["reconstruction"], MAE / 0.5, rtol=1e-5)
    np.testing.assert_allclose(metrics["quantization"], 0.75)
    np.testing.assert_allclose(metrics["adversarial"], adversarial, rtol=1e-5)
    expected = MAE / 0.5 + 0.75 + on * weight * adversarial
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_adaptive_weight_makes_both_gradients_alike():
    """At the reconstructions, as those of random linear logits show."""
    slope = jnp.asarray(np.random.default_rng(3).normal(size=(2, 4, 4, 3)), jnp.float32)

    def discriminate(x):
        return jnp.einsum("bhwc,bhwc->b", x, slope)[:, None, None, None], ()

    loss = Loss(adversarial="hinge", adversarial_weight=0.5, adversarial_adaptive=True)
    total, metrics = Objective(loss).generator_loss(
        outputs(), TARGETS, discriminate, jnp.float32(1), FROZEN
    )
    of_error = 1 / 0.5 / TARGETS.size * np.sqrt(TARGETS.size)  # signs, over variance and number
    scale = of_error / (np.linalg.norm(slope) / 2)
    np.testing.assert_allclose(metrics["adversarial_scale"], scale, rtol=1e-4)
    adversarial = -np.mean(np.sum(np.asarray(outputs().images * slope), axis=(1, 2, 3)))
    np.testing.assert_allclose(total, MAE / 0.5 + 0.75 + 0.5 * scale * adversarial, rtol=1e-4)


@pytest.mark.parametrize("on", [1.0, 0.0])
def test_features_of_reconstructions_are_matched_to_those_of_the_targets(on):
    def discriminate(x):
        return LOGITS, (2 * x, x[:, :1] + 1)

    loss = Loss(adversarial_weight=0.1, feature_matching=0.5)
    total, metrics = Objective(loss).generator_loss(
        outputs(), TARGETS, discriminate, jnp.float32(on), FROZEN
    )
    differences = np.abs(np.asarray(outputs().images) - np.asarray(TARGETS))
    matching = 2 * np.mean(differences) + np.mean(differences[:, :1])
    np.testing.assert_allclose(metrics["feature_matching"], matching, rtol=1e-5)
    adversarial = np.mean(np.log1p(np.exp(-np.asarray(LOGITS))))
    expected = MAE / 0.5 + 0.75 + on * (0.1 * adversarial + 0.5 * matching)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_without_a_discriminator_there_is_no_adversarial_loss():
    loss, metrics = Objective(Loss()).generator_loss(
        outputs(), TARGETS, None, jnp.float32(1), FROZEN
    )
    assert "adversarial" not in metrics
    np.testing.assert_allclose(loss, MAE / 0.5 + 0.75, rtol=1e-5)


def test_terms_are_weighted_and_those_of_weight_0_are_not_computed(monkeypatch):
    def fail(*_):
        raise AssertionError("a term of weight 0 was computed")

    monkeypatch.setitem(losses.TERMS, "two", lambda *_: jnp.float32(2.0))
    monkeypatch.setitem(losses.TERMS, "never", fail)
    loss = Loss(terms={"mae_over_var": 0.5, "two": 3.0, "never": 0.0})
    total, metrics = Objective(loss).generator_loss(
        outputs(), TARGETS, None, jnp.float32(1), FROZEN
    )
    np.testing.assert_allclose(metrics["reconstruction"], 0.5 * MAE / 0.5 + 6, rtol=1e-5)
    np.testing.assert_allclose(total, 0.5 * MAE / 0.5 + 6 + 0.75, rtol=1e-5)
    assert set(metrics) == {"mae_over_var", "two", "reconstruction", "quantization", "loss"}


@pytest.mark.parametrize("on", [0.0, 1.0])
def test_discriminator_loss_is_that_of_both_halves_once_it_plays(on):
    real, fake = LOGITS, LOGITS[::-1] - 1
    loss, metrics = Objective(Loss()).discriminator_loss(real, fake, jnp.float32(on))
    both = np.mean(np.log1p(np.exp(-np.asarray(real)))) + np.mean(
        np.log1p(np.exp(np.asarray(fake)))
    )
    np.testing.assert_allclose(loss, on * both, rtol=1e-5)
    np.testing.assert_allclose(metrics["discriminator_loss"], both, rtol=1e-5)
    np.testing.assert_allclose(metrics["real_logit"], np.mean(real), rtol=1e-5)
    np.testing.assert_allclose(metrics["fake_logit"], np.mean(fake), rtol=1e-5)
