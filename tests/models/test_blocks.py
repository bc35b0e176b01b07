"""Residual blocks against compositions of lax's own convolution and a batch norm by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from avq.models.blocks import Id, Res, Up, nearest2x

from .model_helpers import normal, random_variables, sharded, size

MOMENTUM, EPS, SLOPE = 0.99, 1e-3, 0.1


def conv_by_hand(x, params, stride=1):
    dims = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, params["kernel"], (stride,) * 2, "SAME", dimension_numbers=dims)
    return y + params["bias"][None, None, None]


def up_conv_by_hand(x, params):
    y = lax.conv_transpose(x, params["kernel"], (2, 2), "SAME")
    return y + params["bias"][None, None, None]


def unit_by_hand(x, variables, train, convolve):
    """Batch norm, leaky ReLU, `convolve`; also the running statistics afterwards."""
    params, running = variables["params"], variables["batch_stats"]["norm"]
    flat = x.reshape(-1, x.shape[-1])
    batch = {"mean": jnp.mean(flat, 0), "var": jnp.var(flat, 0)}
    used = batch if train else running
    h = (flat - used["mean"][None]) / jnp.sqrt(used["var"] + EPS)[None]
    h = (h * params["norm"]["scale"][None] + params["norm"]["bias"][None]).reshape(x.shape)
    h = jnp.where(h > 0, h, SLOPE * h)
    moved = {k: MOMENTUM * running[k] + (1 - MOMENTUM) * batch[k] for k in running}
    return convolve(h, params["conv"]), {"norm": moved if train else running}


def block_by_hand(block, x, variables, train):
    """Output of any block, and its running statistics afterwards."""
    stats = {}

    def unit(name, x, stride=1):
        mine = {collection: variables[collection][name] for collection in variables}
        convolve = up_conv_by_hand if stride < 0 else lambda h, p: conv_by_hand(h, p, stride)
        y, stats[name] = unit_by_hand(x, mine, train, convolve)
        return y

    first, last = (1, 1)
    if isinstance(block, Up):
        first = -2
    elif isinstance(block, Res):
        first, last = {"first": (2, 1), "last": (1, 2)}[block.stride_at]
    h = unit("last", unit("second", unit("first", x, first)), last)
    if isinstance(block, Id):
        return x + h, stats
    if isinstance(block, Res):
        return h + unit("shortcut", x, 2), stats
    return h + jnp.kron(unit("shortcut", x), jnp.ones((1, 2, 2, 1))), stats


def test_nearest2x_repeats_every_pixel_twice_along_both_sides():
    x = normal(2, 3, 5, 2)
    expected = np.kron(x, np.ones((1, 2, 2, 1), np.float32))
    chex.assert_trees_all_equal(nearest2x(x), jnp.asarray(expected))


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (Id(), (2, 4, 6, 3)),
        (Res(5), (2, 4, 6, 3)),
        (Res(5, "first"), (2, 4, 6, 3)),
        (Up(5), (2, 2, 3, 4)),
    ],
    ids=["id", "res-last", "res-first", "up"],
)
def test_block_is_its_composition_by_hand(block, shape, train):
    x = 2 + 3 * normal(*shape)
    variables = random_variables(block, x, False)

    @jax.jit
    def both(variables, x):
        actual, state = block.apply(variables, x, train, mutable=["batch_stats"])
        expected, stats = block_by_hand(block, x, variables, train)
        return (actual, state["batch_stats"]), (expected, stats)

    chex.assert_trees_all_close(*both(variables, x), rtol=1e-4, atol=1e-4)


def test_batch_norm_is_over_the_global_batch():
    x = normal(4, 4, 4, 3)
    alone, shared = Res(5), Res(5, axis_name="data")
    variables = random_variables(alone, x, False)

    def train(block):
        return lambda v, x: block.apply(v, x, True, mutable=["batch_stats"])

    expected = jax.jit(train(alone))(variables, x)
    step = sharded(train(shared), 4, (P(), P("data")), (P("data"), P()))
    chex.assert_trees_all_close(step(variables, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("block", "width", "expected"),
    [
        (Id(), 128, 313_216),
        (Id(), 256, 1_249_024),
        (Res(128), 128, 330_240),
        (Res(128), 256, 495_104),
        (Res(128, "first"), 256, 495_104),
        (Up(128), 128, 330_240),
    ],
    ids=["id-128", "id-256", "res-128", "res-256", "res-256-first", "up-128"],
)
def test_block_has_the_size_that_the_papers_counts_imply(key, block, width, expected):
    x = jax.ShapeDtypeStruct((1, 8, 8, width), jnp.float32)
    y, variables = jax.eval_shape(lambda x: block.init_with_output(key, x, False), x)
    side = {Id: 8, Res: 4, Up: 16}[type(block)]
    chex.assert_shape(y, (1, side, side, width if isinstance(block, Id) else 128))
    assert size(variables) == expected


def test_stride_in_the_first_convolution_keeps_parameters_and_shape(key):
    x = jnp.zeros((1, 4, 4, 3))
    first, last = (
        jax.eval_shape(lambda x, at=at: Res(5, at).init_with_output(key, x, False), x)
        for at in ("first", "last")
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(first, last)


def test_id_block_with_a_silent_last_convolution_is_the_identity():
    x = normal(2, 4, 4, 3)
    variables = random_variables(Id(), x, False)
    last = variables["params"]["last"]
    last["conv"] = jax.tree.map(jnp.zeros_like, last["conv"])
    chex.assert_trees_all_equal(jax.jit(Id().apply, static_argnums=2)(variables, x, False), x)


@pytest.mark.parametrize(
    "block", [Id, lambda **f: Res(3, **f), lambda **f: Up(3, **f)], ids=["id", "res", "up"]
)
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_variables(block):
    x = normal(2, 4, 4, 3).astype(jnp.bfloat16)
    half, exact = block(dtype=jnp.bfloat16), block()
    variables = random_variables(half, x, True)

    @jax.jit
    def both(variables, x):
        y, state = half.apply(variables, x, True, mutable=["batch_stats"])
        expected, _ = exact.apply(variables, x.astype(jnp.float32), True, mutable=["batch_stats"])
        return y, expected, state

    y, expected, state = both(variables, x)
    chex.assert_type(y, jnp.bfloat16)
    chex.assert_type(jax.tree.leaves((variables, state)), jnp.float32)
    chex.assert_trees_all_close(y.astype(jnp.float32), expected, rtol=0.05, atol=0.05)
