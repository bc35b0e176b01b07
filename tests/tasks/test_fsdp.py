"""Training state that is split over devices, against one that every device holds whole."""

from functools import partial

import chex
import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from avq import parallel, tasks
from avq.train.loop import optimizers_of
from avq.train.optim import Optim, make_optimizer
from avq.train.state import init_state

from .task_helpers import BATCH, PLAIN, SIZE, Stepper, make_task

FSDP = {"parallel.fsdp": True}


@pytest.fixture
def small(monkeypatch):
    """Splits even the smallest arrays."""
    monkeypatch.setattr(parallel, "SMALL", 1)


def images(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype(np.uint8)


def parts(state):
    """Bytes of a state that the first device holds."""
    shards = (leaf.addressable_shards[0].data for leaf in jax.tree.leaves(state))
    return sum(shard.nbytes for shard in shards)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 64, 128), P(None, None, None, "data")),
        ((3, 3, 128, 64), P(None, None, "data")),
        ((4096, 9), P("data")),
        ((9, 4100), P()),  # eight devices divide neither
        ((8, 64), P()),  # too small
        ((), P()),
    ],
)
def test_longest_axis_that_devices_divide_is_split(shape, spec):
    mesh = parallel.make_mesh(8)
    assert parallel.state_sharding(shape, mesh, fsdp=True).spec == spec
    assert parallel.state_sharding(shape, mesh, fsdp=False).spec == P()


def test_split_step_is_that_of_a_whole_state_to_rounding(small):
    optim = Optim(optimizer="muon", weight_decay=0.1)  # NAdam for all but kernels
    optimizer = make_optimizer(optim, optax.constant_schedule(1e-3))
    whole, split = (
        Stepper(make_task(PLAIN, settings), optimizer, devices=4) for settings in ({}, FSDP)
    )
    after, metrics = whole(whole.state, images())
    batch = parallel.shard_batch({"image": images()}, split.mesh)
    state, found = split.step(split.placed(split.state), {}, batch)
    chex.assert_trees_all_close(jax.device_get(found), metrics, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(jax.device_get(state), after, rtol=1e-4, atol=2e-6)
    assert parts(state) == parallel.bytes_on_a_device(state)
    assert parts(state) < 0.4 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("system", ["ah_vqvae", "ah_vqvae_plus"])
def test_eighth_of_a_real_model_s_state_is_on_each_of_eight_devices(system):
    task = tasks.make_task(tasks.load([f"--config=configs/{system}.py"]))
    init = partial(init_state, task, optimizers_of(task))
    shapes = parallel.shapes(init, parallel.make_mesh(8), fsdp=True)
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    assert parallel.bytes_on_a_device(shapes) <= 0.15 * whole


@pytest.mark.parametrize(("dtype", "error"), [("float32", 2**-22), ("bfloat16", 2**-7)])
@pytest.mark.parametrize("fsdp", [False, True])
def test_mean_gradient_is_that_of_all_devices_and_split_as_the_state_is(dtype, error, fsdp, small):
    mesh = parallel.make_mesh(4)
    settings = parallel.Parallel(fsdp=fsdp, gradient_dtype=dtype)
    gradients = np.random.default_rng(0).uniform(1, 2, (4, 8, 3)).astype(np.float32)

    def of_device(whole, gradient):
        return parallel.mean_gradients(gradient[0], settings), ()

    spec = parallel.state_sharding((8, 3), mesh, fsdp).spec
    mapped = jax.jit(parallel.map_batch(of_device, mesh, spec))
    mean, _ = mapped((), parallel.shard_batch(gradients, mesh))
    np.testing.assert_allclose(mean, gradients.mean(0), rtol=error)
    assert np.any(np.asarray(mean) != gradients.mean(0)) or dtype == "float32"
    assert mean.sharding.spec == spec
