"""Convolutions against those of lax and Flax, in values and gradients."""

import platform
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from avq import cpu
from avq.models.convolutions import UpConv, conv, unit_stride_conv, upsampling_conv

from .model_helpers import normal, random_variables


def of_lax(x, kernel, stride=1, padding="SAME"):
    dims = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=dims)


@pytest.mark.parametrize(("h", "w", "c", "f"), [(3, 4, 3, 5), (1, 2, 1, 1)])
def test_upsampling_conv_is_flax_transposed_convolution_in_values_and_gradients(h, w, c, f):
    x, kernel = normal(2, h, w, c), normal(3, 3, c, f, seed=1)
    weight = normal(2, 2 * h, 2 * w, f, seed=2)
    transposed = nn.ConvTranspose(f, (3, 3), (2, 2), "SAME", use_bias=False)

    def gradients(up):
        def loss(x, kernel):
            y = up(x, kernel)
            return jnp.sum(weight * y), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel)

    ours = gradients(upsampling_conv)
    theirs = gradients(lambda x, kernel: transposed.apply({"params": {"kernel": kernel}}, x))
    chex.assert_shape(ours[1], (2, 2 * h, 2 * w, f))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_up_conv_takes_the_parameters_of_flax_transposed_convolution():
    x, theirs = normal(1, 3, 2, 4), nn.ConvTranspose(5, (3, 3), (2, 2), "SAME")
    variables = random_variables(theirs, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(random_variables(UpConv(5), x), variables)
    expected = theirs.apply(variables, x)
    chex.assert_trees_all_close(UpConv(5).apply(variables, x), expected, rtol=1e-5, atol=1e-5)


def test_up_conv_starts_as_linear_interpolation():
    variables = UpConv(5).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    ramp = jnp.broadcast_to(jnp.arange(6.0)[None, :, None, None], (1, 6, 6, 3))
    y: Any = UpConv(5).apply(variables, ramp)
    y = y[:, 2:-2, 2:-2]  # off the zeros around the image
    steps = jnp.diff(y, axis=1)
    chex.assert_trees_all_close(steps, jnp.broadcast_to(steps[:, :1], steps.shape), atol=1e-5)
    chex.assert_trees_all_close(jnp.diff(y, axis=2), jnp.zeros_like(y[:, :, 1:]), atol=1e-5)
    assert np.abs(steps).max() > 0.1


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (2, 1)])
def test_conv_is_that_of_lax_in_values_and_gradients(side, stride):
    x, kernel = normal(2, 5, 6, 3), normal(side, side, 3, 4, seed=1)
    weight = normal(2, -(-5 // stride), -(-6 // stride), 4, seed=2)
    params = {"kernel": kernel, "bias": jnp.zeros(4)}

    def gradients(convolve):
        def loss(x, params):
            y = convolve(x, params)
            return jnp.sum(weight * y), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, params)

    ours = gradients(lambda x, params: conv(4, side, stride).apply({"params": params}, x))
    theirs = gradients(
        lambda x, params: of_lax(x, params["kernel"], stride) + params["bias"][None, None, None]
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((2, 0), (0, 1)), ((1, 2), (1, 0))])
def test_second_derivatives_of_unit_stride_convolutions_are_those_of_lax(padding):
    """As the penalty of a discriminator's gradient takes them."""
    x, kernel = normal(2, 5, 4, 3), normal(3, 2, 3, 4, seed=1)

    def penalty_gradients(convolve):
        def penalty(x, kernel):
            slope = jax.grad(lambda x: jnp.sum(jnp.tanh(convolve(x, kernel))))(x)
            return jnp.sum(slope**2)

        return jax.jit(jax.grad(penalty, (0, 1)))(x, kernel)

    ours = penalty_gradients(lambda x, kernel: unit_stride_conv(x, kernel, padding))
    theirs = penalty_gradients(lambda x, kernel: of_lax(x, kernel, padding=padding))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_training_in_bfloat16_has_all_convolutions_of_onednn_in_bfloat16():
    x, kernel = normal(2, 8, 8, 16), normal(3, 3, 16, 16, seed=1) / 12

    def gradients(dtype):
        def loss(x, kernel):
            params = {"kernel": kernel, "bias": jnp.zeros(16)}
            h = conv(16, dtype=dtype).apply({"params": params}, x)
            y: Any = UpConv(16, dtype).apply({"params": params}, h)
            return jnp.sum(jnp.sin(y.astype(jnp.float32)))

        with cpu.without_compilation_cache():
            options = cpu.compiler_options("training", jnp.dtype(dtype).name)
            return jax.jit(jax.grad(loss, (0, 1)), compiler_options=options).lower(x, kernel)

    def compiled(lowered):
        with cpu.without_compilation_cache():
            return lowered.compile()

    narrow, wide = (compiled(gradients(dtype)) for dtype in (jnp.bfloat16, jnp.float32))
    if platform.machine() == "x86_64" and jax.__version_info__ >= (0, 11):
        calls = [line for line in narrow.as_text().splitlines() if "onednn$convolution" in line]
        assert len(calls) == 6  # forward, input and weight gradient of both
        assert all("= (bf16[" in call for call in calls)
    for ours, exact in zip(narrow(x, kernel), wide(x, kernel), strict=True):
        assert np.linalg.norm(ours - exact) < 0.02 * np.linalg.norm(exact)
