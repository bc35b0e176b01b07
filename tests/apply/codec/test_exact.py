"""Arithmetic that finds the same bits everywhere: what it computes, and that sums are exact."""

from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from avq.apply.codec import exact


def test_exponential_is_that_of_numpy_and_ends_in_zeros():
    x = -np.random.default_rng(0).uniform(0, 15.9, 10_000)
    np.testing.assert_allclose(exact.exponential(x), np.exp(x), rtol=1e-5)
    assert exact.exponential(np.zeros(1)) == 1
    assert (exact.exponential(np.array([-16.0, -700.0, -np.inf])) == 0).all()


def test_functions_of_a_network_are_those_of_flax():
    rng = np.random.default_rng(1)
    x, scale = exact.fixed(rng.normal(size=(30, 16)) * 3), rng.normal(size=16)
    np.testing.assert_allclose(exact.silu(x), nn.silu(jnp.asarray(x, jnp.float32)), atol=1e-4)
    params = {"scale": jnp.asarray(scale, jnp.float32)}
    normalised: Any = nn.RMSNorm().apply({"params": params}, x)
    np.testing.assert_allclose(exact.rms_norm(x, scale), normalised, atol=2e-4)


def test_softmax_weighs_values_and_leaves_out_what_is_not_seen():
    rng = np.random.default_rng(2)
    logits, values = rng.normal(size=(2, 3, 5)) * 4, exact.fixed(rng.normal(size=(2, 5, 4)))
    logits[:, :, 3:] = -np.inf
    shares = np.exp(logits)
    expected = shares @ values / shares.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(exact.softmax_sum(logits, values), expected, atol=1e-3)


def test_sums_are_exact_in_any_order():
    """Beside fractions of whole numbers, which are never rounded."""
    rng = np.random.default_rng(3)
    x = exact.fixed(rng.normal(size=(2, 300)) * 100)
    kernel = exact.weights(rng.normal(size=(300, 3)).astype(np.float32) * 50)
    assert exact.are_exact(kernel)
    order = rng.permutation(300)
    np.testing.assert_array_equal(x @ kernel, x[:, order] @ kernel[order])
    whole = np.vectorize(Fraction, otypes=[object])
    np.testing.assert_array_equal(x @ kernel, (whole(x) @ whole(kernel)).astype(np.float64))
    assert not exact.are_exact(kernel * 1e4)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_frequencies_add_up_and_follow_the_logits(spread):
    logits = np.random.default_rng(4).normal(size=(50, 256)) * spread
    total = (1 << 24) - 256
    found = exact.frequencies(logits, total).astype(np.float64)
    assert np.all(found >= 0)
    np.testing.assert_array_equal(found, np.floor(found))
    np.testing.assert_array_equal(found.sum(axis=1), total)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = total * shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=300)
