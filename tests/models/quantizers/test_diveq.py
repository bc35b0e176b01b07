"""DiVeQ against its formula and its gradient in numpy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from avq.models.quantizers import DiVeQQuantizer

from ..model_helpers import normal, random_variables
from .quantizer_helpers import D, nearest_by_brute_force, table_of, tiny, train


def test_error_has_the_length_and_nearly_the_direction_to_the_code(key):
    z = 3 * normal(4, 4, 4, D)
    quantizer = tiny(DiVeQQuantizer)
    variables = random_variables(quantizer, z, False)
    result, _ = train(quantizer, variables, z, key)
    rows, table = np.reshape(z, (-1, D)), np.asarray(table_of(variables))
    codes = nearest_by_brute_force(rows, table)
    np.testing.assert_array_equal(np.ravel(result.codes), codes)
    error, simulated = table[codes] - rows, np.reshape(result.vectors, (-1, D)) - rows
    lengths = np.linalg.norm(error, axis=1)
    np.testing.assert_allclose(np.linalg.norm(simulated, axis=1), lengths, rtol=1e-3)
    sines = np.linalg.norm(np.cross(error, simulated), axis=1) / lengths**2
    deviations = sines * lengths / 1e-3**0.5  # across the direction: two of three channels
    assert 1.0 < np.sqrt(np.mean(deviations**2)) < 1.8
    assert float(result.loss) == 0


def test_gradients_are_those_of_the_length(key):
    """`g - (g.u) u` to a latent, `(g.u) u` to its code, but for the deviates."""
    z, weight = 3 * normal(4, 4, 4, D), normal(4, 4, 4, D, seed=1)
    quantizer = tiny(DiVeQQuantizer)
    variables = random_variables(quantizer, z, False)

    def weighted(z, params):
        result, _ = train(quantizer, {**variables, "params": params}, z, key)
        return jnp.sum(weight * result.vectors)

    to_latents, to_codes = jax.grad(weighted, (0, 1))(z, variables["params"])
    result, _ = train(quantizer, variables, z, key)
    rows, table = np.reshape(z, (-1, D)), np.asarray(table_of(variables))
    codes, g = np.ravel(result.codes), np.reshape(weight, (-1, D))
    simulated = np.reshape(result.vectors, (-1, D)) - rows
    lengths = np.linalg.norm(simulated, axis=1, keepdims=True)
    towards = (table[codes] - rows) / lengths  # of unit length
    along = np.sum(g * simulated / lengths, axis=1, keepdims=True) * towards
    np.testing.assert_allclose(np.reshape(to_latents, (-1, D)), g - along, atol=1e-3)
    expected = np.zeros_like(table)
    np.add.at(expected, codes, along)
    np.testing.assert_allclose(to_codes["embedding"], expected, atol=5e-3)


def test_latents_that_filled_the_table_have_finite_gradients(key):
    z = normal(1, 2, 3, D)
    quantizer = tiny(DiVeQQuantizer)
    variables = quantizer.init(key, z, False)
    gradient = jax.grad(lambda z: jnp.sum(train(quantizer, variables, z, key)[0].vectors))(z)
    chex.assert_tree_all_finite(gradient)


def test_evaluation_gives_the_codes_themselves():
    z, quantizer = normal(2, 2, 3, D), tiny(DiVeQQuantizer)
    variables = random_variables(quantizer, z, False)
    result = quantizer.apply(variables, z, False)
    expected = np.asarray(table_of(variables))[np.asarray(result.codes)]
    chex.assert_trees_all_equal(result.vectors, expected)
