"""The training step of an autoencoder and its discriminator."""

import itertools
import multiprocessing
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from avq import cpu, parallel
from avq.errors import InputError
from avq.losses import ADVERSARIAL
from avq.models.build import make_autoencoder, make_discriminator
from avq.pixels import to_float
from avq.train.loop import optimizers_of

from .task_helpers import ADAM, BATCH, PLAIN, Stepper, at_rates, change, make_task

ALONE = {"loss.adversarial_weight": 0.0}


def assert_same_step(found, expected, before):
    """Two states after a step are the same but for rounding."""
    for player in ("vqvae", "discriminator"):
        chex.assert_trees_all_close(
            change(player, before, found), change(player, before, expected), rtol=1e-3, atol=1e-5
        )
        states = (state.players[player].model_state for state in (found, expected))
        chex.assert_trees_all_close(*states, rtol=1e-4, atol=1e-6)


def test_everything_stays_finite_and_keeps_its_shape(one_step):
    before, after, metrics = one_step
    chex.assert_tree_all_finite((after, metrics))
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    assert [level.shape for level in metrics.counts["codes"]] == [(8,), (8,)]
    assert int(after.step) == 1


def test_devices_do_not_change_gradients_statistics_or_codebook(images, one_step):
    before, alone, alone_metrics = one_step
    steps = Stepper(make_task(), devices=8, state=before)
    state, metrics = steps(before, images)
    assert_same_step(state, alone, before)
    chex.assert_trees_all_close(metrics, alone_metrics, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def in_parts(plain):
    """Steps of the plain autoencoder on two devices, in two micro-batches."""
    return Stepper(make_task(PLAIN, {"optim.accumulate": 2}), devices=2, state=plain.state)


def test_micro_batches_that_are_alike_are_the_batch(images, plain, in_parts):
    """Then batch norm sees the same in each, and nothing is left that could differ."""
    images = images[:4].repeat(2, axis=0)
    before, _ = plain(plain.state, images)
    expected, expected_metrics = plain(before, images)
    found, metrics = in_parts(before, images)
    assert_same_step(found, expected, before)
    chex.assert_trees_all_close(metrics, expected_metrics, rtol=1e-4, atol=1e-5)


def test_micro_batches_add_up(images, plain, in_parts):
    """Gradients and statistics are averaged, and codes counted together."""
    before, _ = plain(plain.state, images)
    halves = [plain(before, images[i::2]) for i in (0, 1)]
    found, metrics = in_parts(before, images)
    for player in ("vqvae", "discriminator"):
        expected = [change(player, before, after) for after, _ in halves]
        expected = jax.tree.map(lambda a, b: (a + b) / 2, *expected)
        chex.assert_trees_all_close(change(player, before, found), expected, rtol=1e-3, atol=1e-5)
        states = [after.players[player].model_state["batch_stats"] for after, _ in halves]
        expected = jax.tree.map(lambda a, b: (a + b) / 2, *states)
        batch_stats = found.players[player].model_state["batch_stats"]
        chex.assert_trees_all_close(batch_stats, expected, rtol=1e-4, atol=1e-6)
    counts = sum(m.counts["codes"][0] for _, m in halves)
    np.testing.assert_array_equal(metrics.counts["codes"][0], counts)
    old, new = (
        s.players["vqvae"].model_state["codebook"]["encoder"]["quantizers_0"]["counts"]
        for s in (before, found)
    )
    np.testing.assert_allclose(new, 0.99 * old + 0.01 * counts, rtol=1e-4)
    error = np.mean([m.means["mae_over_var"] for _, m in halves])
    np.testing.assert_allclose(metrics.means["mae_over_var"], error, rtol=1e-5)


def test_first_micro_batch_fills_the_codebook(images, plain, in_parts):
    found, metrics = in_parts(plain.state, images)
    assert metrics.counts["codes"][0].sum() == BATCH * 8 * 8  # one level of 8x8 codes
    chex.assert_tree_all_finite(found)
    codebook = found.players["vqvae"].model_state["codebook"]
    assert np.all(codebook["encoder"]["quantizers_0"]["counts"] > 0)


def test_unsynced_batch_norm_keeps_the_mean_of_the_devices_statistics(images, plain):
    # The encoder's alone: all behind the codebook depends on the whole batch, which filled it.
    halves = [
        plain(plain.state, half)[0].players["vqvae"].model_state["batch_stats"]["encoder"]
        for half in (images[:4], images[4:])
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    task = make_task(PLAIN, {"model.sync_batch_norm": False})
    unsynced = Stepper(task, devices=2, state=plain.state)
    together, _ = unsynced(plain.state, images)
    found = together.players["vqvae"].model_state["batch_stats"]["encoder"]
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def adam():
    """Steps of Adam of the plain autoencoder; `at_rates` sets its rates."""
    return Stepper(make_task(PLAIN), ADAM)


def test_players_do_not_meet_before_the_start(images, adam):
    late = Stepper(make_task(PLAIN, {"loss.adversarial_start": 1}), ADAM, state=adam.state)
    before = late.state
    after, metrics = late(before, images)
    for part in ("params", "opt_state"):
        first, second = (getattr(s.players["discriminator"], part) for s in (before, after))
        chex.assert_trees_all_equal(first, second)
    expected = metrics.means["mae_over_var"] + metrics.means["quantization"]
    chex.assert_trees_all_close(metrics.means["loss"], expected, rtol=1e-6)
    later, metrics = late(after, images)
    changes = jax.tree.leaves(change("discriminator", after, later))
    largest = max(np.abs(leaf).max() for leaf in changes)
    assert 0.009 < largest < 0.0101  # Adam's first update is its learning rate
    expected = metrics.means["mae_over_var"] + metrics.means["quantization"]
    expected += 0.1 * metrics.means["adversarial"]
    chex.assert_trees_all_close(metrics.means["loss"], expected, rtol=1e-6)


@pytest.fixture(scope="module")
def alone():
    """Steps of the plain autoencoder without a discriminator."""
    return Stepper(make_task(PLAIN, ALONE))


def test_codebooks_follow_the_latents_that_pass_before_quantisation_starts(images, alone):
    task = make_task(PLAIN, ALONE, {"loss.quantization_start": 1})
    late = Stepper(task, state=alone.state)
    after, metrics = late(late.state, images)
    assert metrics.means["quantization"] == 0
    codebook = after.players["vqvae"].model_state["codebook"]["encoder"]["quantizers_0"]
    assert codebook["counts"].sum() > 0
    _, metrics = late(after, images)
    assert metrics.means["quantization"] > 0


@pytest.mark.parametrize("still", ["vqvae", "discriminator"])
def test_a_player_is_updated_by_its_own_optimiser_alone(still, images, adam):
    before = adam.state
    both, _ = adam(before, images)
    after, _ = adam(at_rates(before, **{still: 0.0}), images)
    moving = "discriminator" if still == "vqvae" else "vqvae"
    chex.assert_trees_all_equal(after.players[still].params, before.players[still].params)
    assert optax.tree.norm(change(moving, before, after)) > 0
    for part in ("params", "model_state"):
        chex.assert_trees_all_equal(
            getattr(after.players[moving], part), getattr(both.players[moving], part)
        )


def test_generator_gradient_equals_that_of_the_loss_written_out(images, ah, one_step):
    before, after, _ = jax.tree.map(jnp.asarray, one_step)
    # Modules of one device, without the collectives of the step.
    config = ah.task.config
    vqvae = make_autoencoder(config["model"])
    discriminator = make_discriminator(config["discriminator"], config["model"])

    def written_out(params):
        targets = to_float(jnp.asarray(images))
        player = before.players["vqvae"]
        rng = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(before.rng)), 0)
        out, _ = vqvae.apply(
            {"params": params, **player.model_state},
            targets,
            train=True,
            mutable=["batch_stats", "codebook"],
            rngs={"codebook": rng},
        )
        fake, _ = discriminator.apply(
            before.players["discriminator"].variables(),
            out.images,
            train=True,
            mutable=["batch_stats"],
        )
        error = jnp.mean(jnp.abs(out.images - targets)) / 0.3
        commitment = out.levels[0].loss + out.levels[1].loss
        return error + commitment - 0.1 * jnp.mean(jnp.log(jax.nn.sigmoid(fake)))

    params = before.players["vqvae"].params
    gradients = jax.jit(jax.grad(written_out))(params)
    expected = jax.tree.map(lambda p, g: p - g, params, gradients)
    chex.assert_trees_all_close(after.players["vqvae"].params, expected, rtol=1e-3, atol=1e-5)


def test_degraded_image_is_encoded_and_its_target_compared_with(images, alone):
    degraded = np.clip(images.astype(int) + 40, 0, 255).astype(np.uint8)
    batch = parallel.shard_batch({"image": degraded, "target": images}, alone.mesh)
    after, metrics = jax.device_get(alone.step(alone.placed(alone.state), {}, batch))
    as_before, _ = alone(alone.state, degraded)
    codebooks = (s.players["vqvae"].model_state["codebook"] for s in (after, as_before))
    chex.assert_trees_all_close(*codebooks, rtol=1e-5)  # of what was encoded

    state = jax.tree.map(jnp.asarray, alone.state)
    vqvae = make_autoencoder(alone.task.config["model"])
    apply = partial(vqvae.apply, train=True, mutable=["batch_stats", "codebook"])
    out, _ = jax.jit(apply)(
        state.players["vqvae"].variables(),
        to_float(jnp.asarray(degraded)),
        rngs={"codebook": jax.random.fold_in(jax.random.wrap_key_data(state.rng), 0)},
    )
    error = np.abs(np.asarray(out.images) - to_float(images)).mean() / 0.3
    np.testing.assert_allclose(metrics.means["mae_over_var"], error, rtol=1e-4)


def test_factor_that_does_not_divide_the_images_is_refused():
    with pytest.raises(InputError, match=r"data.downscale=3 does not divide data.image_size=16"):
        make_task({"data.downscale": 3})


def test_discriminator_learns_to_tell_real_from_generated(images, adam):
    state = at_rates(adam.state, vqvae=0.0, discriminator=3e-2)
    history = []
    for _ in range(40):
        state, metrics = adam(state, images)
        history.append(metrics.means)
    assert history[-1]["discriminator_loss"] < 0.6 * history[0]["discriminator_loss"]
    assert history[-1]["real_logit"] > history[-1]["fake_logit"] + 1


def test_generator_learns_to_reconstruct(images, adam):
    state = at_rates(adam.state, vqvae=1e-2, discriminator=1e-3)
    state, first = adam(state, images)
    for _ in range(30):
        state, last = adam(state, images)
    assert last.means["mae_over_var"] < 0.7 * first.means["mae_over_var"]


def test_discriminator_of_one_layer_has_no_statistics_and_plays(images):
    one_layer = {"discriminator.filters": (1,), "discriminator.strides": (1,)}
    steps = Stepper(make_task(PLAIN, one_layer))
    batch = {"image": jax.ShapeDtypeStruct(images.shape, images.dtype)}
    after, _ = jax.eval_shape(steps.step, steps.state, {}, batch)
    for state in (after, steps.state):
        assert state.players["discriminator"].model_state == {}
    chex.assert_trees_all_equal_shapes_and_dtypes(after, steps.state)


def test_autoencoder_trains_alone_without_a_discriminator(images, alone):
    after, metrics = alone(alone.state, images)
    assert set(after.players) == {"vqvae"}
    assert "adversarial" not in metrics.means
    chex.assert_tree_all_finite(after)


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(images, plain):
    _, expected = plain(plain.state, images)
    steps = Stepper(make_task(PLAIN, {"model.dtype": "bfloat16"}))
    with cpu.without_compilation_cache():  # which cannot keep calls to oneDNN
        after, metrics = steps(steps.state, images)
    chex.assert_tree_all_finite(after)
    chex.assert_trees_all_equal_dtypes(plain.state, after)
    error, exact = (m.means["mae_over_var"] for m in (metrics, expected))
    chex.assert_trees_all_close(error, exact, rtol=0.05)


def test_gradient_codebook_moves_by_gradient(images):
    steps = Stepper(make_task(PLAIN, {"model.quantizer": "gradient"}))
    after, _ = steps(steps.state, images)
    before, now = (
        s.players["vqvae"].params["encoder"]["quantizers_0"]["embedding"]
        for s in (steps.state, after)
    )
    assert not np.array_equal(before, now)


@pytest.mark.parametrize("kind", ["hinge", "least_squares"])
def test_other_adversarial_losses_reach_both_players(kind, images, plain):
    steps = Stepper(make_task(PLAIN, {"loss.adversarial": kind}), state=plain.state)
    after, metrics = steps(steps.state, images)
    chex.assert_tree_all_finite((after, metrics))
    means = metrics.means
    expected = means["mae_over_var"] + means["quantization"] + 0.1 * means["adversarial"]
    chex.assert_trees_all_close(means["loss"], expected, rtol=1e-6)
    nothing = ADVERSARIAL[kind].generator(jnp.zeros((1, 1, 1, 1)))
    assert means["adversarial"] != nothing


def test_each_player_has_its_own_decay_of_the_mean_gradient():
    task = make_task({"optim.b1": 0.9, "optim.discriminator_b1": 0.3})
    assert (task.optim.b1, task.optims["discriminator"].b1) == (0.9, 0.3)
    gradient, moments = {"kernel": jnp.ones(1)}, {}
    for player, optimizer in optimizers_of(task).items():
        _, state = optimizer.update(gradient, optimizer.init(gradient), gradient)
        moments[player] = optax.tree.get(state, "mu")["kernel"]
    np.testing.assert_allclose(moments["vqvae"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(moments["discriminator"], 0.7, rtol=1e-5)


def test_interval_has_usage_and_perplexity_of_each_level_s_own_codebook(ah):
    counts = {"codes": (np.array([2.0, 2.0, 0.0, 0.0]), np.array([3.0, 0.0]))}
    values = ah.task.interval(counts)
    assert values["usage"] == [0.5, 0.5]
    np.testing.assert_allclose(values["perplexity"], [2.0, 1.0], rtol=1e-6)


def test_headlines_show_the_values_of_a_run(ah):
    values = {"train/loss": 1.5, "train/reconstruction": 0.25, "train/perplexity": [12.3, 4.5]}
    assert ah.task.headline(values) == "loss 1.5000  reconstruction 0.2500  perplexity 12/4"
    measures = {"psnr": 20.126, "ssim": 0.5, "mae_over_std": 0.25, "usage": [1.0, 0.5]}
    last = "Pictures are in runs/x/samples. Next: avq eval runs/x"
    assert ah.task.conclusion("runs/x") == last
    line = "psnr 20.13 dB  ssim 0.500  mae/std 0.2500  usage 100%/50%"
    assert ah.task.evaluation_headline(measures) == line


@pytest.mark.parametrize("value", [0, 90])
def test_images_of_one_colour_are_refused(value, tmp_path):
    for number in range(10):
        Image.new("RGB", (16, 16), (value,) * 3).save(tmp_path / f"{number}.png")
    task = make_task({"data.path": str(tmp_path), "data.batch_size": 2})
    with pytest.raises(InputError, match=r"all training pixels of .* have the same value"):
        task.open_data(None)


def test_killed_data_worker_ends_the_batches_in_one_line(image_folder):
    settings = {"data.path": str(image_folder), "data.workers": 1}
    batches = make_task(settings).open_data(None).batches(0)
    next(batches)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(ChildProcessError, match=r"^one of the data\.workers has died: [^\n]*$"):
        list(itertools.islice(batches, 1000))  # those that were read ahead come before
    batches.close()
