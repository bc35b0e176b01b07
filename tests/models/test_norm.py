"""Batch norm with LeakyReLU against flax's batch norm and autodiff."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from avq.models.norm import NormLeaky, RMSNormLeaky, norm_leaky

from .model_helpers import normal, random_variables, sharded

SHAPE = (4, 3, 5, 6)


class FromFlax(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        norm = nn.BatchNorm(not train, momentum=0.99, epsilon=1e-3, name="norm")
        return nn.leaky_relu(norm(x), 0.1)


def inputs():
    """Features far from zero, of different size in every channel; weights of the result."""
    return 2 + normal(*SHAPE) * jnp.arange(1, 7.0)[None, None, None], normal(*SHAPE, seed=1)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_values_gradients_and_statistics_are_those_of_flax(train):
    x, weight = inputs()
    variables = random_variables(NormLeaky(), x, False)
    params, statistics = variables["params"], variables["batch_stats"]

    def gradients(module, nest):
        def loss(x, params):
            tree = {"params": nest(params), "batch_stats": nest(statistics)}
            y, state = module.apply(tree, x, train, mutable=["batch_stats"])
            return jnp.sum(weight * y), (y, state["batch_stats"])

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, params)

    ours, (y, after) = gradients(NormLeaky(), lambda tree: tree)
    theirs, (expected, expected_after) = gradients(FromFlax(), lambda tree: {"norm": tree})
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(y, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(after, expected_after["norm"], rtol=1e-5)


def test_over_devices_it_is_that_of_the_whole_batch():
    x, weight = inputs()
    scale, bias = normal(6, seed=2), normal(6, seed=3)

    def backward(x, weight, scale, bias, axis_name=None):
        def result(x, scale, bias):
            return norm_leaky(x, scale, bias, jnp.ones(6), jnp.float32, axis_name)

        y, pullback, moments = jax.vjp(result, x, scale, bias, has_aux=True)
        return y, moments, pullback(weight)

    def of_a_part(x, weight, scale, bias):
        scale, bias = (jax.lax.pcast(p, "data", to="varying") for p in (scale, bias))
        y, moments, (d_x, *d_params) = backward(x, weight, scale, bias, "data")
        return y, moments, (d_x, *jax.lax.psum(d_params, "data"))

    split, whole = P("data"), P()
    specs = (split, split, whole, whole), (split, whole, (split, whole, whole))
    parts = sharded(of_a_part, 2, *specs)(x, weight, scale, bias)
    expected = jax.jit(backward)(x, weight, scale, bias)
    chex.assert_trees_all_close(parts, expected, rtol=1e-5, atol=1e-5)


def test_large_mean_costs_no_digits_once_it_is_the_running_mean():
    offset = 3000.0
    x, weight = normal(*SHAPE), normal(*SHAPE, seed=1)
    far = x + offset
    ones, zeros = jnp.ones(6), jnp.zeros(6)

    def loss(x, scale, origin):
        y, moments = norm_leaky(x, scale, zeros, origin)
        return jnp.sum(weight * y), (y, moments)

    gradients = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    actual = gradients(far, ones, zeros + offset - 1)
    moved = jnp.asarray(np.asarray(far, np.float64) - offset, jnp.float32)
    (d_x, d_scale), (y, (mean, variance)) = gradients(moved, ones, zeros)
    expected = (d_x, d_scale), (y, (mean + offset, variance))
    chex.assert_trees_all_close(actual, expected, rtol=2e-3, atol=2e-3)


def test_a_constant_channel_has_finite_gradients():
    x = inputs()[0].at[..., 0].set(3.0)
    ones, zeros = jnp.ones(6), jnp.zeros(6)
    d_x = jax.jit(jax.grad(lambda x: norm_leaky(x, ones, zeros, zeros)[0].sum()))(x)
    chex.assert_tree_all_finite(d_x)


def test_bfloat16_comes_in_and_goes_out_and_is_computed_in_float32():
    x, weight = inputs()
    x = x.astype(jnp.bfloat16)
    ones, zeros = jnp.ones(6), jnp.zeros(6)

    def gradient(x, dtype):
        def loss(x, scale):
            y, _ = norm_leaky(x, scale, zeros, zeros, dtype)
            return jnp.sum(weight * y.astype(jnp.float32)), y

        return jax.grad(loss, (0, 1), has_aux=True)(x, ones)

    (d_x, d_scale), y = jax.jit(lambda x: gradient(x, jnp.bfloat16))(x)
    (exact_x, exact_scale), exact = jax.jit(lambda x: gradient(x, jnp.float32))(
        x.astype(jnp.float32)
    )
    chex.assert_type((y, d_x, d_scale), (jnp.bfloat16, jnp.bfloat16, jnp.float32))
    ours = (a.astype(jnp.float32) for a in (y, d_x, d_scale))
    chex.assert_trees_all_close(tuple(ours), (exact, exact_x, exact_scale), rtol=0.01, atol=0.02)


def test_rms_norm_is_its_formula_and_sees_one_pixel_at_a_time():
    x = normal(2, 3, 4, 5) * 3
    variables = random_variables(RMSNormLeaky(), x, False)
    assert variables.keys() == {"params"}
    scale, bias = (np.float64(variables["params"][name]) for name in ("scale", "bias"))
    values = np.float64(x)
    rms = np.sqrt((values**2).mean(-1, keepdims=True) + 1e-3)
    expected = values / rms * scale + bias
    expected = np.where(expected < 0, 0.1 * expected, expected)
    norm: Any = RMSNormLeaky()
    for train in (False, True):
        y = norm.apply(variables, x, train)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    narrow: Any = RMSNormLeaky(jnp.bfloat16)
    half = narrow.apply(variables, x, True)
    assert half.dtype == jnp.bfloat16
