"""The training step of both players."""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avq import losses, parallel
from avq.models.discriminator import Discriminator
from avq.models.vqvae import VQVAE
from avq.pixels import to_float
from avq.train.state import init_state
from avq.train.step import Objective, train_step

SIZE, BATCH = 16, 8
FIELDS = {
    "codes": 8,
    "latent_dim": 4,
    "base_filters": (4, 4),
    "aren_filters": 4,
    "decoder_filters": (4, 4, 4),
    "encoder_blocks": 1,
    "attention_dim": 4,
    # Far below any real use: in so small a batch revival would rest on rounding.
    "revive_below": 1e-6,
}
# One level without attention, compiled sooner: for what does not depend on the autoencoder.
PLAIN = {"levels": 1, "attention_norm": "off", "encoder_blocks": 0, "decoder_blocks": 0}
OBJECTIVE = Objective(
    pixel_variance=0.3,
    adversarial="non_saturating",
    adversarial_weight=0.1,
    adversarial_start=0,
    ema_decay=0.9,
)
SGD = {"vqvae": optax.sgd(1.0), "discriminator": optax.sgd(1.0)}


def modules(axis_name=None, **fields):
    vqvae = VQVAE(**{**FIELDS, **fields}, axis_name=axis_name)
    norm_axis = axis_name if vqvae.sync_batch_norm else None
    discriminator = Discriminator((4, 4, 1), (2, 2, 1), vqvae.dtype, norm_axis)
    return {"vqvae": vqvae, "discriminator": discriminator}


def make(optimizers=SGD, objective=OBJECTIVE, axis_name=None, adversary=True, **fields):
    """An initial state and the step, not compiled."""
    system = modules(axis_name, **fields)
    if not adversary:
        system["discriminator"] = None
    state = jax.jit(partial(init_state, 0, SIZE, optimizers=optimizers, **system))()
    step = partial(
        train_step,
        optimizers=optimizers,
        objective=objective,
        axis_name=axis_name,
        sync_batch_norm=system["vqvae"].sync_batch_norm,
        **system,
    )
    return state, step


@pytest.fixture(scope="module")
def images():
    """Smooth random images, 0..255."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (BATCH, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def one_step(images):
    """State before, state after and metrics of one SGD step on one device."""
    state, step = make()
    after, metrics = jax.jit(step)(state, images)
    return state, after, metrics


@pytest.fixture(scope="module")
def plain_step(images):
    """The same of the plain autoencoder."""
    state, step = make(**PLAIN)
    after, metrics = jax.jit(step)(state, images)
    return state, after, metrics


def on_devices(count, images, steps=1, **fields):
    """The same with the batch split over `count` devices."""
    state, step = make(axis_name=parallel.AXIS, **fields)
    mesh = parallel.make_mesh(count)
    compiled = parallel.compile_step(step, mesh)
    state = jax.device_put(state, parallel.replicated(mesh))
    for _ in range(steps):
        state, metrics = compiled(state, parallel.place(images, mesh))
    return state, metrics


def test_everything_stays_finite_and_keeps_its_shape(one_step):
    before, after, metrics = one_step
    chex.assert_tree_all_finite((after, metrics))
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    chex.assert_shape(metrics["perplexity"], (2,))
    assert int(after.step) == 1
    chex.assert_trees_all_equal(before.rng, after.rng)


@pytest.mark.parametrize("count", [2, 8])
def test_devices_do_not_change_gradients_statistics_or_codebook(count, images, one_step):
    before, alone, alone_metrics = one_step
    state, metrics = on_devices(count, images)
    # With SGD at rate 1 the change of a parameter is its gradient.
    for player in ("vqvae", "discriminator"):
        old = getattr(before, player).params
        gradients, expected = (
            jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), old, getattr(s, player).params)
            for s in (state, alone)
        )
        chex.assert_trees_all_close(gradients, expected, rtol=1e-3, atol=1e-5)
        chex.assert_trees_all_close(
            jax.device_get(getattr(state, player).model_state),
            jax.device_get(getattr(alone, player).model_state),
            rtol=1e-4,
            atol=1e-6,
        )
    chex.assert_trees_all_close(
        jax.device_get(metrics), jax.device_get(alone_metrics), rtol=1e-4, atol=1e-5
    )


def test_unsynced_batch_norm_keeps_the_mean_of_the_devices_statistics(images):
    fields = {**PLAIN, "sync_batch_norm": False}
    state, step = make(**fields)
    step = jax.jit(step)
    # Of the encoder: what lies behind the codebook depends on the whole batch, which filled it.
    halves = [
        step(state, half)[0].vqvae.model_state["batch_stats"]["encoder"]
        for half in (images[:4], images[4:])
    ]
    expected = jax.tree.map(lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, *halves)
    together, _ = on_devices(2, images, **fields)
    found = jax.device_get(together.vqvae.model_state["batch_stats"]["encoder"])
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


def test_step_that_is_not_finite_is_left_out_and_counted(images):
    state, step = make(objective=OBJECTIVE.replace(skip_nonfinite=True), **PLAIN)
    step = jax.jit(step)
    spoilt = jax.tree.map(lambda p: p.at[(0,) * p.ndim].set(jnp.nan), state.vqvae.params)
    before = replace(state, vqvae=replace(state.vqvae, params=spoilt))
    after, metrics = step(before, images)
    assert not np.isfinite(metrics["loss"])
    assert (int(after.step), int(after.skipped), int(metrics["skipped"])) == (1, 1, 1)
    left = replace(before, step=after.step, skipped=after.skipped)
    chex.assert_trees_all_equal(jax.device_get(after), jax.device_get(left))
    after, _ = step(state, images)
    assert (int(after.step), int(after.skipped)) == (1, 0)
    chex.assert_tree_all_finite(after)


def test_step_is_traced_once_and_donates_every_leaf(images):
    state, step = make(axis_name=parallel.AXIS, **PLAIN)
    mesh = parallel.make_mesh(2)
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def counted(state, images):
        return step(state, images)

    compiled = parallel.compile_step(counted, mesh)
    state = jax.device_put(state, parallel.replicated(mesh))
    for _ in range(3):
        before = state
        state, _ = compiled(state, parallel.place(images, mesh))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert int(state.step) == 3


@pytest.mark.parametrize("frozen", ["vqvae", "discriminator"])
def test_a_player_is_updated_by_its_own_optimiser_alone(frozen, images, plain_step):
    before, both, _ = plain_step
    state, step = make({**SGD, frozen: optax.set_to_zero()}, **PLAIN)
    after, _ = jax.jit(step)(state, images)
    moving = "discriminator" if frozen == "vqvae" else "vqvae"
    chex.assert_trees_all_equal(getattr(after, frozen).params, getattr(before, frozen).params)
    chex.assert_trees_all_close(
        getattr(after, moving).params, getattr(both, moving).params, rtol=1e-5, atol=1e-7
    )
    chex.assert_trees_all_close(
        getattr(after, moving).model_state, getattr(both, moving).model_state, rtol=1e-5
    )


def test_loss_is_scaled_error_plus_quantisation_plus_weighted_adversary(one_step):
    *_, metrics = one_step
    expected = metrics["mae"] / 0.3 + metrics["quantization"] + 0.1 * metrics["adversarial"]
    chex.assert_trees_all_close(metrics["loss"], expected, rtol=1e-6)


def test_generator_gradient_equals_that_of_the_loss_written_out(images, one_step):
    before, after, _ = one_step
    system = modules()

    def written_out(params):
        targets = to_float(jnp.asarray(images))
        variables = {"params": params, **before.vqvae.model_state}
        rng = jax.random.fold_in(jax.random.wrap_key_data(before.rng), 0)
        collections = ["batch_stats", "codebook"]
        out, _ = system["vqvae"].apply(
            variables, targets, train=True, mutable=collections, rngs={"codebook": rng}
        )
        fake, _ = system["discriminator"].apply(
            before.discriminator.variables(), out.images, train=True, mutable=["batch_stats"]
        )
        error = jnp.mean(jnp.abs(out.images - targets)) / 0.3
        commitment = out.levels[0].loss + out.levels[1].loss
        return error + commitment - 0.1 * jnp.mean(jnp.log(jax.nn.sigmoid(fake)))

    gradients = jax.jit(jax.grad(written_out))(before.vqvae.params)
    expected = jax.tree.map(lambda p, g: p - g, before.vqvae.params, gradients)
    chex.assert_trees_all_close(after.vqvae.params, expected, rtol=1e-3, atol=1e-5)


def test_discriminator_learns_to_tell_real_from_generated(images):
    still = {"vqvae": optax.set_to_zero(), "discriminator": optax.adam(3e-2)}
    state, step = make(still, **PLAIN)
    step = jax.jit(step)
    history = []
    for _ in range(40):
        state, metrics = step(state, images)
        history.append(metrics)
    assert history[-1]["discriminator_loss"] < 0.6 * history[0]["discriminator_loss"]
    assert history[-1]["real_logit"] > history[-1]["fake_logit"] + 1


def test_generator_learns_to_reconstruct(images):
    state, step = make({"vqvae": optax.adam(1e-2), "discriminator": optax.adam(1e-3)}, **PLAIN)
    step = jax.jit(step)
    state, first = step(state, images)
    for _ in range(30):
        state, last = step(state, images)
    assert last["mae"] < 0.7 * first["mae"]


def test_players_do_not_meet_before_the_start(images, plain_step):
    before, *_ = plain_step
    state, step = make(objective=OBJECTIVE.replace(adversarial_start=1), **PLAIN)
    step = jax.jit(step)
    after, metrics = step(state, images)
    chex.assert_trees_all_equal(after.discriminator.params, before.discriminator.params)
    expected = metrics["mae"] / 0.3 + metrics["quantization"]
    chex.assert_trees_all_close(metrics["loss"], expected, rtol=1e-6)
    later, _ = step(after, images)
    moved = optax.tree.norm(
        jax.tree.map(jnp.subtract, later.discriminator.params, after.discriminator.params)
    )
    assert moved > 0


def test_autoencoder_trains_alone_without_a_discriminator(images):
    state, step = make(adversary=False, **PLAIN)
    after, metrics = jax.jit(step)(state, images)
    assert after.discriminator is None
    assert "adversarial" not in metrics
    chex.assert_tree_all_finite(after)


def test_average_follows_the_generator(images, one_step):
    before, after, _ = one_step
    keep = 0.1  # (1 + step) / (10 + step) at step 0, under the decay of 0.9
    live = {"params": after.vqvae.params, "batch_stats": after.vqvae.model_state["batch_stats"]}
    expected = jax.tree.map(
        lambda old, new: keep * np.asarray(old) + (1 - keep) * np.asarray(new), before.ema, live
    )
    chex.assert_trees_all_close(after.ema, expected, rtol=1e-5, atol=1e-7)
    assert set(after.ema_variables()) == {"params", "batch_stats", "codebook"}


def test_initial_average_shares_no_buffer_with_the_generator():
    state, _ = make(**PLAIN)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size > 1]
    assert len(pointers) == len(set(pointers))


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(images, one_step):
    *_, expected = one_step
    state, step = make(dtype="bfloat16")
    after, metrics = jax.jit(step)(state, images)
    chex.assert_tree_all_finite(after)
    chex.assert_trees_all_equal_dtypes(state, after)
    chex.assert_trees_all_close(metrics["mae"], expected["mae"], rtol=0.05)


def test_gradient_codebook_moves_only_by_gradient(images):
    state, step = make(codebook_update="gradient", **PLAIN)
    after, _ = jax.jit(step)(state, images)
    assert "codebook" not in after.vqvae.model_state
    before, now = (s.vqvae.params["encoder"]["quantizers_0"]["embedding"] for s in (state, after))
    assert not np.array_equal(before, now)


@pytest.mark.parametrize("kind", ["hinge", "least_squares"])
def test_other_adversarial_losses_reach_both_players(kind, images):
    state, step = make(objective=OBJECTIVE.replace(adversarial=kind), **PLAIN)
    after, metrics = jax.jit(step)(state, images)
    chex.assert_tree_all_finite((after, metrics))
    expected = metrics["mae"] / 0.3 + metrics["quantization"] + 0.1 * metrics["adversarial"]
    chex.assert_trees_all_close(metrics["loss"], expected, rtol=1e-6)
    assert metrics["adversarial"] != losses.generator_loss(fake_logits=jnp.zeros((1, 1, 1, 1)))
