"""A term of the loss from outside avq."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from avq.losses import TERMS, Loss
from avq.models.vqvae import Reconstruction
from avq.settings import construct, require_valid, settings_of
from avq.tasks.objective import Objective


def total_variation(outputs, targets, frozen):
    """Mean absolute difference of neighbouring pixels (Rudin et al., 1992, anisotropic)."""
    return sum(jnp.mean(jnp.abs(jnp.diff(outputs.images, axis=axis))) for axis in (1, 2))


def test_registered_term_is_part_of_the_loss(monkeypatch):
    monkeypatch.setitem(TERMS, "total_variation", total_variation)
    section = {name: setting.default for name, setting in settings_of(Loss).items()}
    section |= {
        "terms": {"mae_over_var": 1.0, "total_variation": 0.1},
        "adversarial": "hinge",
        "adversarial_weight": 0.0,
    }
    require_valid("loss", section, settings_of(Loss))
    objective = Objective(construct(Loss, section))
    images, targets = np.random.default_rng(0).uniform(-1, 1, (2, 2, 5, 4, 3)).astype(np.float32)

    def loss(images):
        outputs, frozen = Reconstruction(images, ()), {"pixel_variance": 0.25}
        return objective.generator_loss(outputs, jnp.asarray(targets), None, jnp.float32(0), frozen)

    (total, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(images)
    variation = sum(np.abs(np.diff(images, axis=axis)).mean() for axis in (1, 2))
    mae = np.abs(images - targets).mean()
    chex.assert_trees_all_close(total, np.float32(mae / 0.25 + 0.1 * variation), rtol=1e-5)
    chex.assert_trees_all_close(metrics["total_variation"], np.float32(variation), rtol=1e-5)
    chex.assert_tree_all_finite(gradient)
