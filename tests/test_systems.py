"""The systems of configs/: every one builds, and trains where it has parts of its own."""

from functools import partial
from typing import Any

import chex
import jax
import numpy as np
import pytest

from avq import parallel, tasks
from avq.train.loop import compile_step, optimizers_of
from avq.train.state import init_state

LEVELS = {
    "vqvae": 1,
    "a_vqvae": 1,
    "h_vqvae": 2,
    "ah_vqvae": 2,
    "ah3_vqvae": 3,
    "ah_vqvae_plus": 2,
}


@pytest.mark.parametrize("variant", ["paper", "tiny"])
@pytest.mark.parametrize("system", LEVELS)
def test_every_config_builds_with_a_discriminator_where_it_plays(system, variant):
    settings = tasks.load([f"--config=configs/{system}.py:{variant}"])
    task: Any = tasks.make_task(settings)
    state = jax.eval_shape(partial(init_state, task, optimizers_of(task)))
    players = {"vqvae", "discriminator"} if settings.loss.adversarial_weight > 0 else {"vqvae"}
    assert set(state.players) == players
    assert ("discriminator" not in players) == (system in ("vqvae", "ah_vqvae_plus"))
    assert task.model.levels == LEVELS[system]
    chex.assert_type(jax.tree.leaves(state.players["vqvae"].params), np.float32)


@pytest.mark.parametrize("system", LEVELS)
def test_paper_is_the_variant_when_none_is_named(system):
    named, unnamed = (tasks.load([f"--config=configs/{system}.py{v}"]) for v in (":paper", ""))
    assert named.to_dict() == unnamed.to_dict()


# Those that have all parts of the others, together: to compile a step takes long.
@pytest.mark.parametrize("system", ["ah3_vqvae", "ah_vqvae_plus"])
def test_tiny_variant_trains_two_steps(system):
    settings = tasks.load([f"--config=configs/{system}.py:tiny"])
    task: Any = tasks.make_task(settings)
    task.pixel_variance = 0.3
    optimizers, mesh = optimizers_of(task), parallel.make_mesh(1)
    step = compile_step(task, optimizers, mesh)
    size, rng = settings.data.image_size, np.random.default_rng(0)
    # Drawn by numpy: to compile the initial state takes half as long as to compile the step.
    shapes = jax.eval_shape(partial(init_state, task, optimizers))
    state = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    for player in state.players.values():
        player.params.update(
            jax.tree.map(lambda a: rng.normal(0, 0.1, a.shape).astype(a.dtype), player.params)
        )
    state = jax.device_put(state, parallel.replicated(mesh))
    batch = {"image": rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)}
    for _ in range(2):
        state, metrics = step(state, {}, parallel.shard_batch(batch, mesh))
    chex.assert_tree_all_finite((state, metrics))
    assert int(state.step) == 2
