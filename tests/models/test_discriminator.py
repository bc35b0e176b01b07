"""The PatchGAN's size, what a logit sees, and that its mean is free."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from avq.models.discriminator import Discriminator

from .model_helpers import normal, random_variables, sharded, size

TINY = (3, 3, 3, 2, 2, 1)


def test_logits_and_size_are_the_papers(key):
    images = jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32)
    logits, variables = jax.eval_shape(
        lambda x: Discriminator().init_with_output(key, x, True), images
    )
    chex.assert_shape(logits, (2, 32, 32, 1))
    assert size(variables) == 412_097
    assert size(variables["params"]) == 411_073


def test_a_logit_sees_a_square_of_63_pixels():
    images = normal(1, 80, 80, 3)
    model: Any = Discriminator(TINY)
    variables = random_variables(model, images, False)

    @jax.jit
    @jax.grad
    def gradient(images):
        return model.apply(variables, images, False)[0, 4, 4, 0]

    seen = np.any(np.asarray(gradient(images)) != 0, axis=(0, 3))
    expected = np.zeros((80, 80), bool)
    expected[8:71, 8:71] = True
    np.testing.assert_array_equal(seen, expected)


def test_training_leaves_the_mean_logit_free():
    images = normal(4, 16, 16, 3)
    model = Discriminator(TINY)
    variables = random_variables(model, images, False)

    @jax.jit
    def mean_logit(offset):
        params = variables["params"]
        params = params | {"conv6": params["conv6"] | {"bias": offset}}
        logits, _ = model.apply(
            variables | {"params": params}, images, True, mutable=["batch_stats"]
        )
        return jnp.mean(logits)

    difference = mean_logit(jnp.full(1, 5.0)) - mean_logit(jnp.full(1, -5.0))
    chex.assert_trees_all_close(difference, jnp.float32(10), rtol=1e-4)


def by_hand(variables, x, train):
    """Convolutions with biases; batch norm and leaky ReLU between them."""
    params, running = variables["params"], variables["batch_stats"]
    for i, stride in enumerate((2, 2, 2, 1, 1, 1), start=1):
        kernel, bias = params[f"conv{i}"]["kernel"], params[f"conv{i}"]["bias"]
        dims = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (stride,) * 2, "SAME", dimension_numbers=dims)
        x = x + bias[None, None, None]
        if i == 6:
            break
        flat, norm = x.reshape(-1, x.shape[-1]), params[f"norm{i}"]
        used = (
            {"mean": jnp.mean(flat, 0), "var": jnp.var(flat, 0)} if train else running[f"norm{i}"]
        )
        flat = (flat - used["mean"][None]) / jnp.sqrt(used["var"] + 1e-3)[None]
        x = (flat * norm["scale"][None] + norm["bias"][None]).reshape(x.shape)
        x = jnp.where(x > 0, x, 0.1 * x)
    return x


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_model_is_its_composition_by_hand(train):
    images = normal(4, 16, 16, 3)
    model = Discriminator(TINY)
    variables = random_variables(model, images, False)

    @jax.jit
    def both(variables, images):
        actual, _ = model.apply(variables, images, train, mutable=["batch_stats"])
        return actual, by_hand(variables, images, train)

    chex.assert_trees_all_close(*both(variables, images), rtol=1e-3, atol=1e-4)


def test_features_are_those_of_the_hidden_layers(key):
    """Put out where they are asked for, and no part of the variables."""

    def features(x):
        variables = Discriminator(TINY).init(key, x, True)
        return variables, Discriminator(TINY).apply(variables, x, False, mutable=["intermediates"])

    variables, (_, state) = jax.eval_shape(
        features, jax.ShapeDtypeStruct((2, 16, 16, 3), "float32")
    )
    assert set(variables) == {"params", "batch_stats"}
    shapes = [feature.shape for feature in state["intermediates"]["features"]]
    assert shapes == [(2, 8, 8, 3), (2, 4, 4, 3), (2, 2, 2, 3), (2, 2, 2, 2), (2, 2, 2, 2)]


def test_batch_norm_is_over_the_global_batch():
    images = normal(4, 16, 16, 3)
    alone, shared = Discriminator(TINY), Discriminator(TINY, axis_name="data")
    variables = random_variables(alone, images, False)

    def train(model):
        return lambda v, x: model.apply(v, x, True, mutable=["batch_stats"])

    expected = jax.jit(train(alone))(variables, images)
    step = sharded(train(shared), 2, (P(), P("data")), (P("data"), P()))
    chex.assert_trees_all_close(step(variables, images), expected, rtol=1e-4, atol=1e-4)
