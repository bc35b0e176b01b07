"""The mesh, batches on their devices, and steps over several of them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from avq import parallel


def over(mesh, function):
    """A function of whole arrays and a batch, compiled for a mesh."""
    return jax.jit(parallel.map_batch(function, mesh, P()))


def on(mesh, value):
    """An array that is whole on every device."""
    return jax.device_put(np.asarray(value, np.float32), parallel.replicated(mesh))


@pytest.mark.parametrize(("asked", "size"), [(0, 8), (1, 1), (3, 3), (8, 8)])
def test_mesh_has_the_first_devices_or_all_of_them(asked, size):
    mesh = parallel.make_mesh(asked)
    assert mesh.axis_names == ("data",)
    assert mesh.size == size
    assert list(mesh.devices) == jax.devices()[:size]


@pytest.mark.parametrize("asked", [9, -1])
def test_mesh_of_devices_that_are_not_there_is_refused(asked):
    with pytest.raises(ValueError, match=f"{asked} devices asked for, 8 present"):
        parallel.make_mesh(asked)


def test_rows_of_a_batch_are_spread_over_the_devices_in_order():
    mesh = parallel.make_mesh(4)
    batch = {"x": np.arange(24).reshape(8, 3), "mask": np.arange(8) < 5}
    placed = parallel.shard_batch(batch, mesh)
    chex.assert_trees_all_equal(jax.device_get(placed), batch)
    for name, array in placed.items():
        parts = {shard.device: np.asarray(shard.data) for shard in array.addressable_shards}
        assert list(parts) == jax.devices()[:4]
        for i, device in enumerate(jax.devices()[:4]):
            np.testing.assert_array_equal(parts[device], batch[name][2 * i : 2 * i + 2])


def test_state_is_whole_on_every_device():
    mesh = parallel.make_mesh(4)
    array = jax.device_put(np.arange(8), parallel.replicated(mesh))
    assert len(array.addressable_shards) == 4
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, np.arange(8))


@pytest.mark.parametrize("devices", [1, 4])
def test_sums_in_a_compiled_step_are_over_the_whole_batch(devices):
    batch = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

    def sums(start, rows):
        total = jax.lax.psum(rows.sum(0), parallel.AXIS)
        parts = jax.lax.psum(jnp.ones(()), parallel.AXIS)
        return start + total, {"devices": parts, "rows": rows.shape[0] * parts}

    mesh = parallel.make_mesh(devices)
    total, metrics = over(mesh, sums)(on(mesh, np.zeros(3)), parallel.shard_batch(batch, mesh))
    np.testing.assert_allclose(total, batch.sum(0), rtol=1e-5)
    assert metrics["devices"] == devices
    assert metrics["rows"] == 8


def test_compiled_step_takes_over_the_buffers_of_the_old_state():
    compiled = parallel.compile_step(lambda state, frozen, rows: (state + 1, rows.sum()))
    state = on(parallel.make_mesh(2), np.zeros(3))
    compiled(state, {}, np.ones(2, np.float32))
    assert state.is_deleted()


@pytest.mark.parametrize(
    ("backend", "asked", "passed"),
    [("gpu", True, True), ("gpu", False, False), ("cpu", True, False)],
)
def test_steps_are_made_deterministic_where_asked_and_on_a_gpu_alone(
    backend, asked, passed, monkeypatch
):
    made = []
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def jit(step, compiler_options, **_):
        made.append(compiler_options)
        return step

    monkeypatch.setattr(jax, "jit", jit)
    parallel.compile_step(lambda *a: a, deterministic=asked)
    assert (parallel.DETERMINISTIC.items() <= made[0].items()) == passed


def test_option_of_deterministic_steps_is_known_to_this_jax():
    double = jax.jit(lambda x: 2 * x, compiler_options=parallel.DETERMINISTIC)
    assert double(jnp.float32(3)) == 6


@pytest.mark.parametrize("devices", [1, 4])
def test_mean_over_devices_leaves_what_is_replicated(devices):
    mesh = parallel.make_mesh(devices)

    def means_of(whole, rows):
        return parallel.pmean({"varying": rows.sum(), "replicated": whole}), ()

    rows = parallel.shard_batch(np.arange(8, dtype=np.float32), mesh)
    means, _ = over(mesh, means_of)(on(mesh, 0.1), rows)
    np.testing.assert_allclose(means["varying"], 28 / devices)
    assert means["replicated"] == jnp.float32(0.1)


@pytest.mark.parametrize("devices", [1, 4])
def test_gradient_of_a_device_varying_parameter_is_of_the_device_s_own_rows(devices):
    mesh = parallel.make_mesh(devices)

    def gradient_of(w, rows):
        own = parallel.device_varying(w)
        return parallel.pmean(jax.grad(lambda w: jnp.mean(w * rows))(own)), ()

    rows = parallel.shard_batch(np.arange(8, dtype=np.float32), mesh)
    gradient, _ = over(mesh, gradient_of)(on(mesh, 2.0), rows)
    np.testing.assert_allclose(gradient, 3.5)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_mapped_function_sees_the_rows_of_one_device_alone(devices):
    mesh = parallel.make_mesh(devices)
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    mapped = parallel.map_rows(lambda scale, x: (scale * x, x - x.mean()), mesh, {})
    variables = jax.device_put(np.float32(3), parallel.replicated(mesh))
    scaled, centred = mapped(variables, parallel.shard_batch(rows, mesh))
    np.testing.assert_array_equal(scaled, 3 * rows)
    parts = rows.reshape(devices, -1)
    expected = (parts - parts.mean(1, keepdims=True)).reshape(rows.shape)
    np.testing.assert_allclose(centred, expected, rtol=1e-6)


def test_delayed_maximum_is_that_of_the_call_before():
    largest = parallel.DelayedMax(parallel.make_mesh(2))
    assert [largest(number) for number in (3, 15, 0, 2)] == [0, 3, 15, 0]
