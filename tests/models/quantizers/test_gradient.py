"""Gradient quantiser: its codebook is a parameter, moved by the optimiser alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from avq.models.quantizers import GradientQuantizer

from ..model_helpers import normal, random_variables
from .quantizer_helpers import D, nearest_by_brute_force, tiny, train


def test_codebook_is_a_parameter_and_nothing_else_is_kept(key):
    z = normal(2, 2, 3, D)
    quantizer = tiny(GradientQuantizer)
    variables = quantizer.init(key, z, True)
    assert list(variables) == ["params"]
    _, after = train(quantizer, variables, z, key)
    chex.assert_trees_all_equal(after, variables)


def test_descent_moves_every_chosen_code_to_the_mean_of_its_latents(key):
    z = normal(2, 4, 4, D)
    quantizer = tiny(GradientQuantizer)
    start = random_variables(quantizer, z, False)

    @jax.jit
    def descend(variables):
        slope = jax.grad(lambda v: quantizer.apply(v, z, True).loss)(variables)
        return jax.tree.map(lambda value, s: value - 5.0 * s, variables, slope)

    variables = start
    for _ in range(300):
        variables = descend(variables)
    before, table = start["params"]["embedding"], variables["params"]["embedding"]
    codes = nearest_by_brute_force(z.reshape(-1, D), table)
    for code in range(len(table)):
        latents = np.reshape(z, (-1, D))[codes == code]
        expected = np.mean(latents, axis=0) if len(latents) else before[code]
        chex.assert_trees_all_close(table[code], jnp.asarray(expected), atol=1e-3)
