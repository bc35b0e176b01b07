"""Gradient quantiser: gradients move its codes from where the first batch or a revival put them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from avq.models.quantizers import GradientQuantizer

from ..model_helpers import normal, random_variables
from .quantizer_helpers import D, K, is_row_of, nearest_by_brute_force, table_of, tiny, train


def test_a_step_moves_no_code_once_the_first_batch_filled_the_codebook(key):
    z = normal(2, 2, 3, D)
    quantizer = tiny(GradientQuantizer, revive_below=0.0)
    variables = quantizer.init(key, z, True)
    assert not np.any(is_row_of(table_of(variables), z))
    result, filled = train(quantizer, variables, z, key)
    assert np.all(is_row_of(table_of(filled), z))
    assert np.all(is_row_of(result.vectors, z))
    _, after = train(quantizer, filled, z + 1, key)
    chex.assert_trees_all_equal(table_of(after), table_of(filled))
    chex.assert_trees_all_equal(after["params"], variables["params"])


def test_dead_code_is_replaced_where_its_parameter_is_far_from_0(key):
    z = normal(2, 2, 3, D)
    table = np.concatenate([normal(K - 1, D, seed=1), normal(1, D, mean=50.0)])
    offset = normal(K, D, seed=2)
    state = {"start": jnp.asarray(table) - offset, "use": jnp.ones(K).at[-1].set(1e-3)}
    variables = {"params": {"embedding": offset}, "codebook": state}
    _, after = train(tiny(GradientQuantizer), variables, z, key)
    now = table_of(after)
    chex.assert_trees_all_close(now[:-1], jnp.asarray(table[:-1]), atol=1e-5)
    assert is_row_of(now[-1], z, atol=1e-5)


def test_descent_moves_every_chosen_code_to_the_mean_of_its_latents(key):
    z = normal(2, 4, 4, D)
    quantizer = tiny(GradientQuantizer)
    start = random_variables(quantizer, z, False)

    @jax.jit
    def descend(variables):
        def loss(params):
            return train(quantizer, {**variables, "params": params}, z, key)[0].loss

        slope = jax.grad(loss)(variables["params"])
        params = jax.tree.map(lambda value, s: value - 5.0 * s, variables["params"], slope)
        return {**variables, "params": params}

    variables = start
    for _ in range(300):
        variables = descend(variables)
    before, table = table_of(start), table_of(variables)
    codes = nearest_by_brute_force(z.reshape(-1, D), table)
    for code in range(len(table)):
        latents = np.reshape(z, (-1, D))[codes == code]
        expected = np.mean(latents, axis=0) if len(latents) else before[code]
        chex.assert_trees_all_close(table[code], jnp.asarray(expected), atol=1e-3)
