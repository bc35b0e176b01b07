"""Losses against a discriminator: adaptive weight, R1, LeCam and feature matching, in the step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avq import parallel
from avq.checkpoint import Checkpoints
from avq.errors import InputError
from avq.models.build import make_autoencoder, make_discriminator
from avq.pixels import to_float

from .task_helpers import BATCH, PLAIN, Stepper, change, make_task

ALL_ON = {
    "loss.adversarial_adaptive": True,
    "loss.r1": 1.0,
    "loss.lecam": 0.5,
    "loss.feature_matching": 0.2,
}


@pytest.fixture(scope="module")
def all_on(images):
    """Steps under all losses against a discriminator, from the state after one of them."""
    steps = Stepper(make_task(PLAIN, ALL_ON))
    return steps, *steps(steps.state, images)


def averages(state):
    return state.players["discriminator"].model_state["averages"]


def with_averages(state, **values):
    """The state with other average logits."""
    player = state.players["discriminator"]
    player = player.replace(
        model_state={**player.model_state, "averages": jax.tree.map(np.float32, values)}
    )
    return state.replace(players={**state.players, "discriminator": player})


def test_losses_against_a_discriminator_are_finite_and_average_its_logits(all_on):
    steps, after, metrics = all_on
    chex.assert_tree_all_finite((after, metrics))
    means = metrics.means
    for name in ("adversarial_scale", "r1", "feature_matching"):
        assert means[name] > 0
    assert averages(steps.state) == {"real": 0, "fake": 0}
    expected = {name: 0.01 * means[f"{name}_logit"] for name in ("real", "fake")}
    chex.assert_trees_all_close(averages(after), expected, rtol=1e-5)
    expected = means["reconstruction"] + means["quantization"]
    expected += 0.1 * means["adversarial_scale"] * means["adversarial"]
    np.testing.assert_allclose(means["loss"], expected + 0.2 * means["feature_matching"], rtol=1e-5)


def test_devices_and_micro_batches_that_are_alike_do_not_change_these_losses(images, all_on):
    images = images[:4].repeat(2, axis=0)
    steps, before, _ = all_on
    before = with_averages(before, real=0.3, fake=-0.2)
    expected, means = steps(before, images)
    task = make_task(PLAIN, ALL_ON, {"optim.accumulate": 2})
    in_parts = Stepper(task, devices=2, state=steps.state)
    found, found_means = in_parts(before, images)
    assert means.means["lecam"] > 0
    chex.assert_trees_all_close(found_means.means, means.means, rtol=1e-3)
    chex.assert_trees_all_close(averages(found), averages(expected), rtol=1e-5)
    changes = [change("discriminator", before, after) for after in (expected, found)]
    chex.assert_trees_all_close(*changes, rtol=1e-2, atol=1e-4)


def test_lecam_reaches_the_discriminator_alone(images, all_on):
    steps, before, _ = all_on
    near, far = (steps(with_averages(before, real=by, fake=-by), images)[0] for by in (0.0, 3.0))
    chex.assert_trees_all_equal(near.players["vqvae"], far.players["vqvae"])
    moved = change("discriminator", near, far)
    assert optax.tree.norm(moved) > 0.1


def test_discriminator_gradient_equals_that_of_its_losses_written_out(images, all_on):
    """Feature matching is none of them."""
    steps, before, _ = all_on
    before = with_averages(before, real=0.3, fake=-0.2)
    after, _ = steps(before, images)
    config = steps.task.config
    discriminator = make_discriminator(config["discriminator"], config["model"])
    before, targets = jax.tree.map(jnp.asarray, (before, to_float(jnp.asarray(images))))
    player = before.players["discriminator"]

    def reconstructions():
        outputs, _ = make_autoencoder(config["model"]).apply(
            before.players["vqvae"].variables(),
            targets,
            train=True,
            mutable=["batch_stats", "codebook"],
            rngs={"codebook": jax.random.key(0)},
        )
        return outputs.images

    def written_out(params, images):
        def logits(x):
            variables = {"params": params, "batch_stats": player.model_state["batch_stats"]}
            return discriminator.apply(variables, x, train=True, mutable=["batch_stats"])[0]

        real, fake = logits(targets), logits(images)
        entropy = -jnp.mean(jnp.log(jax.nn.sigmoid(real)) + jnp.log(jax.nn.sigmoid(-fake)))
        slopes = jax.grad(lambda x: jnp.sum(logits(x)) / 16)(targets)  # of 4x4 patches
        above, below = jnp.maximum(real + 0.2, 0), jnp.maximum(0.3 - fake, 0)
        lecam = jnp.mean(above**2) + jnp.mean(below**2)
        return entropy + jnp.sum(slopes**2) / BATCH / 2 + 0.5 * lecam

    gradients = jax.jit(lambda p: jax.grad(written_out)(p, reconstructions()))(player.params)
    expected = jax.tree.map(lambda p, g: p - g, player.params, gradients)
    chex.assert_trees_all_close(
        after.players["discriminator"].params, expected, rtol=1e-3, atol=1e-5
    )


def test_averages_of_logits_are_saved_and_resumed_to_the_same_bits(images, all_on, tmp_path):
    steps, before, _ = all_on
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, before, {})
        checkpoints.wait()
        target = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(
                a.shape, a.dtype, sharding=parallel.replicated(steps.mesh)
            ),
            before,
        )
        _, restored = checkpoints.restore_newest(target)
    chex.assert_trees_all_equal(jax.device_get(restored), before)
    chex.assert_trees_all_equal(steps(restored, images), steps(before, images))


def test_discriminator_without_lecam_keeps_no_averages(plain):
    assert set(plain.state.players["discriminator"].model_state) == {"batch_stats"}


def test_features_of_a_discriminator_without_hidden_layers_are_refused():
    one_layer = {"discriminator.filters": (1,), "discriminator.strides": (1,)}
    with pytest.raises(InputError, match=r"^loss\.feature_matching needs [^\n]*$"):
        make_task(PLAIN, one_layer, {"loss.feature_matching": 1.0})
