"""Pixel attention against an explicit double loop over pixels in float64."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads

from avq.models import attention
from avq.models.attention import PixelAttention, attention_weights

from .model_helpers import normal, random_variables

NORMS = ("paper", "mean", "bias", "bias_clip")
FORMS = ("algorithm1", "equation3")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weights_by_loop(queries, keys, norm):
    """Attention matrix of one image, pair by pair."""
    (n, c), m = queries.shape, len(keys)
    weights = np.zeros((n, m))
    for i in range(n):
        for j in range(m):
            logit = sum(queries[i, f] * keys[j, f] for f in range(c))
            weights[i, j] = {
                "paper": sigmoid(logit),
                "mean": sigmoid(logit / c**0.5) / m,
                "bias": sigmoid(logit / c**0.5 - np.log(m)),
                "bias_clip": sigmoid(logit / c**0.5 - np.log(m)),
            }[norm]
        if norm == "bias_clip" and sum(weights[i]) > 1:
            weights[i] = weights[i] / sum(weights[i])
    return weights


def attention_by_loop(x, y, params, norm, form):
    """The layer pixel by pixel: x_i + sum_j W_ij y_j."""
    x, y, params = jax.tree.map(lambda a: np.asarray(a, np.float64), (x, y, params))
    out = []
    for image, other in zip(x, y, strict=True):
        pixels, others = image.reshape(-1, image.shape[-1]), other.reshape(-1, other.shape[-1])
        queries, keys = (
            a @ params[g]["kernel"][0, 0] + params[g]["bias"]
            for a, g in ((pixels, "g1"), (others, "g2"))
        )
        weights = weights_by_loop(queries, keys, norm)
        base, values = (queries, keys) if form == "algorithm1" else (pixels, others)
        rows = [
            base[i] + sum(weights[i, j] * values[j] for j in range(len(values)))
            for i in range(len(base))
        ]
        out.append(np.reshape(rows, (*image.shape[:2], -1)))
    return np.asarray(out, np.float32)


def identity_projections(width, scale=1.0):
    """g1 = g2 = `scale` times the identity, without a bias."""
    kernel = scale * jnp.eye(width).reshape(1, 1, width, width)
    return {"params": {g: {"kernel": kernel, "bias": jnp.zeros(width)} for g in ("g1", "g2")}}


def shuffled(x, seed=0):
    """The same images with their pixels in another order."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    order = np.random.default_rng(seed).permutation(flat.shape[1])
    return flat[:, order].reshape(x.shape)


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
def test_layer_is_the_double_loop_over_pixels(norm, form, cross):
    x = normal(2, 2, 3, 3)
    y = 2 * normal(2, 3, 3, 3, seed=1) if cross else x
    layer = PixelAttention(4, form, norm)
    variables = random_variables(layer, x)
    actual = jax.jit(layer.apply)(variables, x, y) if cross else layer.apply(variables, x)
    expected = attention_by_loop(x, y, variables["params"], norm, form)
    chex.assert_shape(actual, (*x.shape[:3], 4 if form == "algorithm1" else 3))
    chex.assert_trees_all_close(actual, jnp.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gain", [0.3, 3.0], ids=["free-rows", "clipped-rows"])
def test_weights_are_the_formula(norm, gain):
    queries, keys = gain * normal(1, 4, 3), gain * normal(1, 5, 3, seed=1)
    one, other = (np.asarray(a[0], np.float64) for a in (queries, keys))
    expected = weights_by_loop(one, other, norm)
    actual = attention_weights(queries, keys, norm)[0]
    chex.assert_trees_all_close(actual, jnp.asarray(expected.astype(np.float32)), rtol=1e-4)


def test_paper_norm_is_the_sigmoid_of_the_products():
    queries, keys = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    products = np.matmul(np.asarray(queries), np.asarray(keys).transpose(0, 2, 1))
    actual = attention_weights(queries, keys, "paper")
    chex.assert_trees_all_close(actual, jnp.asarray(sigmoid(products)), rtol=1e-5)


@pytest.mark.parametrize("norm", ["mean", "bias_clip"])
@pytest.mark.parametrize("gain", [1.0, 100.0], ids=["moderate", "stress"])
def test_update_never_exceeds_the_largest_value(norm, gain):
    x = gain * normal(2, 4, 4, 3)
    layer: Any = PixelAttention(3, norm=norm)
    update = layer.apply(identity_projections(3), x) - x
    largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    assert jnp.all(jnp.abs(update) <= largest * (1 + 1e-5))


def test_bias_norm_exceeds_the_largest_value_once_the_projections_align():
    x = 100 + normal(1, 4, 4, 3)
    layers: list[Any] = [PixelAttention(3, norm=norm) for norm in ("bias", "bias_clip")]
    free, clipped = (layer.apply(identity_projections(3), x) - x for layer in layers)
    assert jnp.min(free) > 10 * jnp.max(x)
    chex.assert_trees_all_close(free / 16, clipped, rtol=1e-4)  # 16 pixels, all pertinent


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
def test_nothing_pertinent_leaves_the_input_alone(norm, form):
    x = 50 + normal(2, 2, 2, 3)
    layer = PixelAttention(3, form, norm)
    opposite = layer.apply(identity_projections(3), x, -x)
    empty = layer.apply(identity_projections(3), x, jnp.zeros_like(x))
    chex.assert_trees_all_equal(opposite, x)
    chex.assert_trees_all_equal(empty, x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
def test_pixels_may_come_in_any_order(norm, form):
    x, y = normal(2, 3, 3, 4), normal(2, 3, 2, 4, seed=1)
    layer = PixelAttention(4, form, norm)
    apply, variables = jax.jit(layer.apply), random_variables(layer, x)
    chex.assert_trees_all_close(
        apply(variables, shuffled(x)), shuffled(apply(variables, x)), rtol=1e-4, atol=1e-5
    )
    chex.assert_trees_all_close(
        apply(variables, x, shuffled(y)), apply(variables, x, y), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("norm", NORMS)
def test_attending_to_another_image_differs_from_attending_to_itself(norm):
    x, y = normal(1, 2, 2, 3), normal(1, 2, 2, 3, seed=1)
    layer: Any = PixelAttention(4, norm=norm)
    variables = random_variables(layer, x)
    alone = layer.apply(variables, x)
    chex.assert_trees_all_equal(layer.apply(variables, x, x), alone)
    assert jnp.min(jnp.max(jnp.abs(layer.apply(variables, x, y) - alone), axis=-1)) > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_images_of_a_batch_do_not_see_each_other(norm):
    x = normal(2, 2, 2, 3)
    layer: Any = PixelAttention(4, norm=norm)
    variables = random_variables(layer, x)
    alone = [layer.apply(variables, image[None]) for image in x]
    chex.assert_trees_all_close(layer.apply(variables, x), jnp.concatenate(alone), rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_queries_give_float32_logits(norm):
    queries, keys = (3 * normal(1, 6, 8, seed=s).astype(jnp.bfloat16) for s in (0, 1))
    expected = attention_weights(queries.astype(jnp.float32), keys.astype(jnp.float32), norm)
    actual = attention_weights(queries, keys, norm)
    chex.assert_type(actual, jnp.float32)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_layer_is_close_to_the_float32_one(form):
    x = normal(2, 3, 3, 4).astype(jnp.bfloat16)
    half: Any = PixelAttention(4, form, dtype=jnp.bfloat16)
    exact = PixelAttention(4, form, dtype=jnp.float32)
    variables = random_variables(half, x)
    actual, expected = half.apply(variables, x), exact.apply(variables, x.astype(jnp.float32))
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    chex.assert_type(actual, jnp.bfloat16)
    chex.assert_trees_all_close(actual.astype(jnp.float32), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_are_finite_where_the_sigmoid_saturates(norm):
    layer: Any = PixelAttention(3, norm=norm)
    x = 300 * normal(1, 3, 3, 3)

    def loss(variables, x):
        return jnp.sum(layer.apply(variables, x) ** 2)

    chex.assert_tree_all_finite(jax.jit(jax.grad(loss, (0, 1)))(identity_projections(3), x))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_the_numerical_ones(form):
    x, y = normal(1, 2, 2, 2), normal(1, 1, 3, 2, seed=1)
    layer = PixelAttention(2, form, "bias_clip")
    apply = jax.jit(layer.apply)
    variables = random_variables(layer, x)
    check_grads(apply, (variables, x, y), order=1, modes=["rev"], rtol=0.01, atol=0.01, eps=1e-2)


@pytest.mark.parametrize("fields", [{"norm": "softmax"}, {"form": "equation2"}])
def test_unknown_option_is_refused_by_name(fields, key, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a user runs without it
    (value,) = fields.values()
    with pytest.raises(AssertionError, match=value):
        PixelAttention(4, **fields).init(key, jnp.zeros((1, 2, 2, 3)))


def blockwise(monkeypatch, block):
    """From here on W is computed in blocks of about so many elements, however small it is."""
    monkeypatch.setattr(attention, "DENSE", 0)
    monkeypatch.setattr(attention, "BLOCK", block)


def update_and_gradients(norm, weight):
    """`attend` and the gradients of its weighted sum, of queries, keys and values."""

    def weighted(queries, keys, values):
        update = attention.attend(queries, keys, values, norm)
        return jnp.sum(weight * update), update

    return jax.jit(jax.value_and_grad(weighted, (0, 1, 2), has_aux=True))


@pytest.mark.parametrize("block", [1, 24, 1000], ids=["of-one-query", "uneven", "of-all-queries"])
@pytest.mark.parametrize("norm", NORMS)
def test_blockwise_attention_is_the_dense_one(norm, block, monkeypatch):
    tokens = normal(2, 7, 3), normal(2, 5, 3, seed=1), normal(2, 5, 4, seed=2)
    weight = normal(2, 7, 4, seed=3)
    expected = update_and_gradients(norm, weight)(*tokens)
    blockwise(monkeypatch, block)
    actual = update_and_gradients(norm, weight)(*tokens)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("form", FORMS)
def test_blockwise_layer_is_the_dense_one(form, cross, monkeypatch):
    x = normal(2, 3, 3, 3)
    y = normal(2, 2, 3, 3, seed=1) if cross else None
    layer: Any = PixelAttention(4, form)
    variables = random_variables(layer, x)
    gradients = jax.grad(lambda v, x: jnp.sum(layer.apply(v, x, y) ** 2), (0, 1))
    expected = layer.apply(variables, x, y), gradients(variables, x)
    blockwise(monkeypatch, 24)
    actual = layer.apply(variables, x, y), gradients(variables, x)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_blockwise_bfloat16_gradients_are_summed_in_float32(monkeypatch):
    tokens = [normal(1, n, 4, seed=n).astype(jnp.bfloat16) for n in (512, 3, 2)]
    tokens[2] = jnp.ones((1, 3, 4), jnp.bfloat16)
    weight = jnp.ones((1, 512, 4), jnp.bfloat16)
    _, expected = update_and_gradients("mean", weight)(*tokens)
    blockwise(monkeypatch, 1)  # 512 terms, of which bfloat16 would lose the later ones
    _, actual = update_and_gradients("mean", weight)(*tokens)
    chex.assert_type(actual, jnp.bfloat16)
    chex.assert_trees_all_close(actual, expected, rtol=0.01, atol=0.01)


def test_blockwise_attention_never_holds_all_weights(monkeypatch):
    blockwise(monkeypatch, 2**17)
    tokens = [jax.ShapeDtypeStruct((1, 2048, 8), jnp.float32)] * 3
    compiled = update_and_gradients("bias_clip", normal(1, 2048, 8)).lower(*tokens).compile()
    all_weights = 4 * 2048**2
    assert compiled.memory_analysis().temp_size_in_bytes < all_weights / 4


def test_papers_attention_is_dense():
    assert attention.DENSE >= 10 * 1024 * 1024
