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
from avq.train.objective import Objective
from avq.train.state import init_state
from avq.train.step import train_step

SIZE, BATCH = 16, 8
FIELDS = {
    "codes": 8,
    "latent_dim": 4,
    "base_filters": (4, 4),
    "aren_filters": 4,
    "decoder_filters": (4, 4, 4),
    "encoder_blocks": 0,
    "decoder_blocks": 0,
    "attention_dim": 4,
    # Far below any real use: in so small a batch revival would rest on rounding.
    "revive_below": 1e-6,
}
# One level without attention, compiled sooner: for what does not depend on the autoencoder.
PLAIN = {
    "levels": 1,
    "base_filters": (4,),
    "decoder_filters": (4, 4),
    "attention_norm": "off",
}
OBJECTIVE = Objective(
    pixel_variance=0.3,
    adversarial="non_saturating",
    adversarial_weight=0.1,
    adversarial_start=0,
    ema_decay=0.9,
)
SGD = {"vqvae": optax.sgd(1.0), "discriminator": optax.sgd(1.0)}
# With learning rates that are a part of the state, one compiled step serves several tests.
ADAM = {name: optax.inject_hyperparams(optax.adam)(learning_rate=1e-2) for name in SGD}


def modules(axis_name=None, filters=(4, 4, 1), strides=(2, 2, 1), **fields):
    vqvae = VQVAE(**{**FIELDS, **fields}, axis_name=axis_name)
    norm_axis = axis_name if vqvae.sync_batch_norm else None
    discriminator = Discriminator(filters, strides, vqvae.dtype, norm_axis)
    return {"vqvae": vqvae, "discriminator": discriminator}


def make(
    optimizers=SGD, objective=OBJECTIVE, axis_name=None, adversary=True, accumulate=1, **fields
):
    """An initial state and the step, not compiled; `fields` of both modules."""
    system = modules(axis_name, **fields)
    if not adversary:
        system["discriminator"] = None
    state = jax.jit(partial(init_state, 0, SIZE, optimizers=optimizers, **system))()
    step = partial(
        train_step,
        optimizers=optimizers,
        objective=objective,
        accumulate=accumulate,
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
def plain_step():
    """An initial state of the plain autoencoder and its SGD step for one device."""
    state, step = make(**PLAIN)
    return state, jax.jit(step)


@pytest.fixture(scope="module")
def plain_adam():
    """The same with Adam; `at_rates` sets its rates."""
    state, step = make(ADAM, **PLAIN)
    return at_rates(state, vqvae=1e-2, discriminator=1e-2), jax.jit(step)


def at_rates(state, **rates):
    """The state with other learning rates, by player."""
    for name, rate in rates.items():
        player = getattr(state, name)
        hyperparams = {"learning_rate": jnp.float32(rate)}
        opt_state = player.opt_state._replace(hyperparams=hyperparams)
        state = replace(state, **{name: replace(player, opt_state=opt_state)})
    return state


def copied(state, mesh):
    """On every device; a step takes over what it is given."""
    return jax.device_put(jax.tree.map(np.array, state), parallel.replicated(mesh))


def on_devices(count, images, **fields):
    """State and metrics after one SGD step with the batch split over `count` devices."""
    state, step = make(axis_name=parallel.AXIS, **fields)
    mesh = parallel.make_mesh(count)
    compiled = parallel.compile_step(step, mesh)
    return compiled(copied(state, mesh), parallel.place(images, mesh))


def test_everything_stays_finite_and_keeps_its_shape(one_step):
    before, after, metrics = one_step
    chex.assert_tree_all_finite((after, metrics))
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    chex.assert_shape(metrics["perplexity"], (2,))
    assert int(after.step) == 1
    chex.assert_trees_all_equal(before.rng, after.rng)


def change(player, before, after):
    """Of a player's parameters; with SGD at rate 1 the gradient with its sign turned."""
    after, before = jax.device_get((getattr(after, player), getattr(before, player)))
    return jax.tree.map(np.subtract, after.params, before.params)


def assert_same_step(found, expected, before):
    """Two states after a step are the same but for rounding."""
    for player in ("vqvae", "discriminator"):
        chex.assert_trees_all_close(
            change(player, before, found), change(player, before, expected), rtol=1e-3, atol=1e-5
        )
        states = (jax.device_get(getattr(s, player).model_state) for s in (found, expected))
        chex.assert_trees_all_close(*states, rtol=1e-4, atol=1e-6)


def test_devices_do_not_change_gradients_statistics_or_codebook(images, one_step):
    before, alone, alone_metrics = one_step
    state, metrics = on_devices(8, images)
    assert_same_step(state, alone, before)
    chex.assert_trees_all_close(
        jax.device_get(metrics), jax.device_get(alone_metrics), rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def in_parts():
    """The plain autoencoder's step on two devices, in two micro-batches, traced at most once; and
    its mesh.
    """
    _, step = make(axis_name=parallel.AXIS, accumulate=2, **PLAIN)
    mesh = parallel.make_mesh(2)
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def counted(state, images):
        return step(state, images)

    return parallel.compile_step(counted, mesh), mesh


def test_micro_batches_that_are_alike_are_the_batch(images, plain_step, in_parts):
    """Then batch norm sees the same in each, and nothing is left that could differ."""
    (state, step), (step_in_parts, mesh) = plain_step, in_parts
    images = images[:4].repeat(2, axis=0)
    before, _ = step(state, images)
    expected, expected_metrics = step(before, images)
    found, metrics = step_in_parts(copied(before, mesh), parallel.place(images, mesh))
    assert_same_step(found, expected, before)
    chex.assert_trees_all_close(
        jax.device_get(metrics), jax.device_get(expected_metrics), rtol=1e-4, atol=1e-5
    )


def test_micro_batches_add_up(images, plain_step, in_parts):
    """What differs between them is averaged, and counted in the codebook together."""
    (state, step), (step_in_parts, mesh) = plain_step, in_parts
    before, _ = step(state, images)
    halves = [step(before, images[i::2]) for i in (0, 1)]
    found, metrics = step_in_parts(copied(before, mesh), parallel.place(images, mesh))
    for player in ("vqvae", "discriminator"):
        expected = [change(player, before, after) for after, _ in halves]
        expected = jax.tree.map(lambda a, b: (a + b) / 2, *expected)
        chex.assert_trees_all_close(change(player, before, found), expected, rtol=1e-3, atol=1e-5)
        states = [getattr(after, player).model_state["batch_stats"] for after, _ in halves]
        expected = jax.tree.map(lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, *states)
        batch_stats = jax.device_get(getattr(found, player).model_state["batch_stats"])
        chex.assert_trees_all_close(batch_stats, expected, rtol=1e-4, atol=1e-6)
    counts = sum(np.asarray(m["code_counts"]) for _, m in halves)
    np.testing.assert_array_equal(metrics["code_counts"], counts)
    old, new = (
        s.vqvae.model_state["codebook"]["encoder"]["quantizers_0"]["counts"]
        for s in (before, found)
    )
    np.testing.assert_allclose(new, 0.99 * np.asarray(old) + 0.01 * counts[0], rtol=1e-4)
    mae = np.mean([m["mae"] for _, m in halves])
    np.testing.assert_allclose(metrics["mae"], mae, rtol=1e-5)


def test_first_micro_batch_fills_the_codebook(images, plain_step, in_parts):
    (state, _), (step_in_parts, mesh) = plain_step, in_parts
    found, metrics = step_in_parts(copied(state, mesh), parallel.place(images, mesh))
    assert metrics["code_counts"].sum() == BATCH * 8 * 8  # one level of 8x8 codes
    chex.assert_tree_all_finite(found)
    assert np.all(found.vqvae.model_state["codebook"]["encoder"]["quantizers_0"]["counts"] > 0)


def test_step_is_traced_once_and_donates_every_leaf(images, plain_step, in_parts):
    step_in_parts, mesh = in_parts
    state = copied(plain_step[0], mesh)
    for _ in range(3):
        before = state
        state, _ = step_in_parts(state, parallel.place(images, mesh))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert int(state.step) == 3


def test_unsynced_batch_norm_keeps_the_mean_of_the_devices_statistics(images, plain_step):
    fields = {**PLAIN, "sync_batch_norm": False}
    state, step = plain_step
    # Of the encoder: what lies behind the codebook depends on the whole batch, which filled it.
    halves = [
        step(state, half)[0].vqvae.model_state["batch_stats"]["encoder"]
        for half in (images[:4], images[4:])
    ]
    expected = jax.tree.map(lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, *halves)
    together, _ = on_devices(2, images, **fields)
    found = jax.device_get(together.vqvae.model_state["batch_stats"]["encoder"])
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def careful_step():
    """A step that leaves out what is not finite, and whose players meet at step 1."""
    objective = OBJECTIVE.replace(skip_nonfinite=True, adversarial_start=1)
    state, step = make(objective=objective, **PLAIN)
    return state, jax.jit(step)


def test_step_that_is_not_finite_is_left_out_and_counted(images, careful_step):
    state, step = careful_step
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


def test_players_do_not_meet_before_the_start(images, careful_step):
    before, step = careful_step
    after, metrics = step(before, images)
    chex.assert_trees_all_equal(after.discriminator.params, before.discriminator.params)
    expected = metrics["mae"] / 0.3 + metrics["quantization"]
    chex.assert_trees_all_close(metrics["loss"], expected, rtol=1e-6)
    later, metrics = step(after, images)
    assert optax.tree.norm(change("discriminator", after, later)) > 0
    expected = metrics["mae"] / 0.3 + metrics["quantization"] + 0.1 * metrics["adversarial"]
    chex.assert_trees_all_close(metrics["loss"], expected, rtol=1e-6)


@pytest.mark.parametrize("frozen", ["vqvae", "discriminator"])
def test_a_player_is_updated_by_its_own_optimiser_alone(frozen, images, plain_adam):
    before, step = plain_adam
    both, _ = step(before, images)
    after, _ = step(at_rates(before, **{frozen: 0.0}), images)
    moving = "discriminator" if frozen == "vqvae" else "vqvae"
    chex.assert_trees_all_equal(getattr(after, frozen).params, getattr(before, frozen).params)
    assert optax.tree.norm(change(moving, before, after)) > 0
    for part in ("params", "model_state"):
        chex.assert_trees_all_equal(
            getattr(getattr(after, moving), part), getattr(getattr(both, moving), part)
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


def test_discriminator_learns_to_tell_real_from_generated(images, plain_adam):
    state, step = plain_adam
    state = at_rates(state, vqvae=0.0, discriminator=3e-2)
    history = []
    for _ in range(40):
        state, metrics = step(state, images)
        history.append(metrics)
    assert history[-1]["discriminator_loss"] < 0.6 * history[0]["discriminator_loss"]
    assert history[-1]["real_logit"] > history[-1]["fake_logit"] + 1


def test_generator_learns_to_reconstruct(images, plain_adam):
    state, step = plain_adam
    state = at_rates(state, vqvae=1e-2, discriminator=1e-3)
    state, first = step(state, images)
    for _ in range(30):
        state, last = step(state, images)
    assert last["mae"] < 0.7 * first["mae"]


def test_discriminator_of_one_layer_has_no_statistics_and_plays(images):
    state, step = make(filters=(1,), strides=(1,), **PLAIN)
    after = jax.eval_shape(step, state, images)[0]
    assert after.discriminator.model_state == state.discriminator.model_state == {}
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


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


def test_initial_average_shares_no_buffer_with_the_generator(plain_step):
    state, _ = plain_step
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size > 1]
    assert len(pointers) == len(set(pointers))


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(images, plain_step):
    state, step = plain_step
    _, expected = step(state, images)
    state, step = make(dtype="bfloat16", **PLAIN)
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
