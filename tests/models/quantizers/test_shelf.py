"""Quantisers without a table, the linear map of SimVQ, and options of those with one, each against
its formula.
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy import linalg, spatial, special, stats

from avq.errors import InputError
from avq.models.encoder import quantize
from avq.models.quantizers import (
    QUANTIZERS,
    BSQQuantizer,
    EMAQuantizer,
    FSQQuantizer,
    LFQQuantizer,
    SimVQQuantizer,
)
from avq.models.quantizers.base import normal_distance, rotated, soft_entropy
from avq.models.quantizers.filled import KMEANS_ITERATIONS, kmeans

from ..model_helpers import normal, random_variables, sharded
from .quantizer_helpers import D, K, nearest_by_brute_force, table_of, tiny, train

TABLE_FREE = {
    "fsq": FSQQuantizer(fsq_levels=(4, 3, 5)),
    "lfq": LFQQuantizer(bits=4),
    "bsq": BSQQuantizer(bits=4),
}


def test_every_quantiser_is_on_the_shelf_once():
    assert len(set(QUANTIZERS.values())) == len(QUANTIZERS) == 9


@pytest.mark.parametrize("quantizer", TABLE_FREE.values(), ids=TABLE_FREE)
def test_codes_number_the_vectors_of_the_codebook(quantizer):
    z = 2 * normal(3, 5, 6, quantizer.code_dim)
    table = np.asarray(quantizer.codebook())
    assert table.shape == (quantizer.codebook_size, quantizer.code_dim)
    assert len(np.unique(table, axis=0)) == len(table)
    result = jax.jit(partial(quantizer.apply, {}), static_argnums=1)(z, False)
    assert 0 <= np.min(result.codes) < np.max(result.codes) < len(table)
    chex.assert_trees_all_close(result.vectors, jnp.asarray(table[result.codes]), atol=1e-6)
    expected = np.bincount(np.ravel(result.codes), minlength=len(table))
    np.testing.assert_array_equal(result.statistics.counts, expected)
    chex.assert_trees_all_equal(quantizer.lookup(result.codes), result.vectors)


@pytest.mark.parametrize("quantizer", TABLE_FREE.values(), ids=TABLE_FREE)
def test_vector_of_a_code_has_that_code(quantizer):
    """As latents that lie on them; tanh's inverse brings those of FSQ there."""
    table = np.asarray(quantizer.codebook(), np.float64)
    if isinstance(quantizer, FSQQuantizer):
        levels = np.array(quantizer.fsq_levels)
        reach = (levels - 1) * 1.001 / 2
        offset = np.where(levels % 2 == 0, 0.5, 0)
        table = np.arctanh((table * (levels // 2) + offset) / reach) - np.arctanh(offset / reach)
    z = jnp.asarray(table[None, None], jnp.float32)
    codes = quantizer.apply({}, z, False).codes
    np.testing.assert_array_equal(codes[0, 0], np.arange(len(table)))


@pytest.mark.parametrize(
    "quantizer",
    [TABLE_FREE["fsq"], TABLE_FREE["bsq"], tiny(unit_length=True)],
    ids=["fsq", "bsq", "unit length"],
)
def test_latents_that_pass_before_quantisation_lie_where_the_codes_do(quantizer):
    z = 5 * normal(2, 3, 4, quantizer.code_dim)
    variables = random_variables(quantizer, z, False)
    quantized: Any = quantizer.apply(variables, z, False)
    apart = np.abs(quantized.latents - quantized.vectors).max()
    assert apart < 1.5  # z itself is up to 15 away
    late: Any = quantizer.clone(name=None).bind(variables)
    passed = quantize(late, z, False, jnp.array(False))
    chex.assert_trees_all_equal(passed.vectors, quantized.latents)


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_fsq_uses_as_many_values_as_it_is_given(levels):
    z = jnp.linspace(-8, 8, 1001).reshape(1, 1, -1, 1)
    result: Any = FSQQuantizer(fsq_levels=(levels,)).apply({}, z, False)
    values = np.unique(result.vectors)
    assert len(values) == levels
    np.testing.assert_allclose(np.diff(values), 1 / (levels // 2), rtol=1e-6)


@pytest.mark.parametrize("kind", [LFQQuantizer, BSQQuantizer])
def test_binary_codes_are_the_nearest_and_entropies_those_of_all_codes(kind):
    quantizer = kind(bits=3, binary_commitment=0.0, entropy_weight=1.0)
    z = normal(2, 3, 4, 3)
    result = quantizer.apply({}, z, False)
    latents = np.asarray(z, np.float64).reshape(-1, 3)
    magnitude = 1.0
    if kind is BSQQuantizer:
        latents /= np.linalg.norm(latents, axis=1, keepdims=True)
        magnitude = 3**-0.5
    table = np.asarray(quantizer.codebook())
    np.testing.assert_array_equal(np.ravel(result.codes), nearest_by_brute_force(latents, table))
    distance = ((latents[:, None] - table) ** 2).sum(-1) / magnitude**2
    choice = np.exp(-distance) / np.exp(-distance).sum(1, keepdims=True)
    of_each = -(choice * np.log(choice)).sum(1).mean()
    bits = choice.mean(0) @ (table > 0)  # the mean choice's bits, taken as independent
    of_all = -(bits * np.log(bits) + (1 - bits) * np.log(1 - bits)).sum()
    assert float(result.loss) == pytest.approx((of_each - of_all) / 3, rel=1e-4)


@pytest.mark.parametrize("quantizer", TABLE_FREE.values(), ids=TABLE_FREE)
def test_loss_of_several_devices_is_that_of_one(quantizer, key):
    z = normal(8, 1, 2, quantizer.code_dim)
    shared = quantizer.clone(axis_name="data")

    def loss(z):
        result = shared.apply({}, z, True)
        return jax.lax.pmean(result.loss, "data"), result.statistics.counts

    expected = quantizer.apply({}, z, True)
    actual = sharded(loss, 4, (P("data"),), (P(), P()))(z)
    chex.assert_trees_all_close(actual, (expected.loss, expected.statistics.counts), rtol=1e-5)


def test_simvq_learns_the_map_and_not_the_vectors(key):
    quantizer, z = tiny(SimVQQuantizer), normal(2, 2, 3, D)
    variables = random_variables(quantizer, z, False)
    table = variables["codebook"]["embedding"] @ variables["params"]["kernel"]
    result, after = train(quantizer, variables, z, key)
    expected = nearest_by_brute_force(z.reshape(-1, D), table)
    np.testing.assert_array_equal(np.ravel(result.codes), expected)
    chex.assert_trees_all_equal(after, variables)

    def loss(params):
        return train(quantizer, {**variables, "params": params}, z, key)[0].loss

    chosen = np.asarray(table)[expected]
    by_hand = 2 / z.size * np.asarray(variables["codebook"]["embedding"])[expected].T
    by_hand = by_hand @ (chosen - np.reshape(z, (-1, D)))
    gradient = jax.grad(loss)(variables["params"])["kernel"]
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-3, atol=1e-6)


def test_rotation_takes_latents_to_codes_and_turns_the_gradient_back():
    z, target, weight = (normal(2, 1, 3, 4, seed=seed) for seed in range(3))
    values, back = jax.vjp(lambda z: rotated(z, target), z)
    chex.assert_trees_all_close(values, target, atol=1e-5)
    gradient = back(weight)[0]

    def cosine(a, b):
        return jnp.sum(a * b, -1) / jnp.linalg.norm(a, axis=-1) / jnp.linalg.norm(b, axis=-1)

    scale = jnp.linalg.norm(target, axis=-1) / jnp.linalg.norm(z, axis=-1)
    lengths = jnp.linalg.norm(weight, axis=-1) * scale
    chex.assert_trees_all_close(jnp.linalg.norm(gradient, axis=-1), lengths, rtol=1e-4)
    chex.assert_trees_all_close(cosine(gradient, z), cosine(weight, target), atol=1e-5)


@pytest.mark.parametrize("kind", ["ema", "gradient", "simvq"])
def test_rotation_gives_the_values_of_straight_through(kind, key):
    z = normal(2, 2, 3, D)
    variables = random_variables(tiny(QUANTIZERS[kind]), z, False)
    results = [
        train(tiny(QUANTIZERS[kind], estimator=name), variables, z, key)[0]
        for name in ("straight_through", "rotation")
    ]
    chex.assert_trees_all_equal(results[0].codes, results[1].codes)
    chex.assert_trees_all_close(results[0].vectors, results[1].vectors, atol=1e-5)


@pytest.mark.parametrize("kind", ["ema", "gradient", "simvq"])
def test_codes_of_unit_length_are_those_of_the_greatest_cosine(kind, key):
    quantizer, z = tiny(QUANTIZERS[kind], unit_length=True), 3 * normal(2, 2, 3, D)
    variables = random_variables(quantizer, z, False)
    if kind == "simvq":
        table = variables["codebook"]["embedding"] @ variables["params"]["kernel"]
    else:
        table = table_of(variables)
    if kind == "ema":
        table = table / jnp.linalg.norm(table, axis=1, keepdims=True)
        variables["codebook"]["embedding"] = table
    result, after = train(quantizer, variables, z, key)
    cosines = np.reshape(z, (-1, D)) @ np.asarray(table / jnp.linalg.norm(table, axis=1)[:, None]).T
    np.testing.assert_array_equal(np.ravel(result.codes), cosines.argmax(1))
    codebook = quantizer.apply(after, method="codebook")
    chex.assert_trees_all_close(jnp.linalg.norm(codebook, axis=1), jnp.ones(K), rtol=1e-5)


def test_codes_that_kmeans_fills_are_of_unit_length_from_the_first_batch_on(key):
    quantizer, z = tiny(unit_length=True, fill="kmeans"), 3 * normal(2, 2, 6, D)
    result, _ = train(quantizer, quantizer.init(key, z, False), z, key)
    lengths = jnp.linalg.norm(result.vectors, axis=-1)
    chex.assert_trees_all_close(lengths, jnp.ones_like(lengths), rtol=1e-5)


def test_more_combinations_than_a_codebook_may_have_are_refused():
    with pytest.raises(InputError, match="has 68,719,476,736 combinations, more than 16,777,216"):
        FSQQuantizer(fsq_levels=(8,) * 12)


def test_distance_to_the_standard_normal_is_the_matrix_formula():
    z = 0.7 * normal(50, 4) @ normal(4, 4, seed=1) + 0.3
    rows = np.asarray(z, np.float64)
    covariance = np.cov(rows.T, bias=True)
    root = linalg.sqrtm(covariance).real
    expected = np.sum(rows.mean(0) ** 2) + np.trace(covariance + np.eye(4) - 2 * root)
    assert float(normal_distance(z)) == pytest.approx(expected / 4, rel=1e-4)
    shared = sharded(lambda z: normal_distance(z, "data"), 2, (P("data"),), P())
    assert float(shared(z)) == pytest.approx(expected / 4, rel=1e-4)


def test_gradient_of_that_distance_is_the_same_on_several_devices():
    """As the trainer takes it: of each device's loss, then the mean over devices."""
    z, scale = normal(8, 4), jnp.array([[0.5, 1.0, 2.0, 3.0]])

    def loss(scale, z, axis_name=None):
        return normal_distance(scale * z, axis_name) + jnp.mean(z)

    def gradient(scale, z):
        varying = jax.lax.pcast(scale, "data", to="varying")
        return jax.lax.pmean(jax.grad(loss)(varying, z, "data"), "data")

    shared = sharded(gradient, 4, (P(), P("data")), P())
    chex.assert_trees_all_close(shared(scale, z), jax.grad(loss)(scale, z), rtol=1e-4)


def test_entropy_of_soft_choices_is_that_of_scipy():
    z, codes = normal(40, 3), normal(7, 3, seed=1)
    distances = spatial.distance.cdist(np.asarray(z, np.float64), np.asarray(codes, np.float64))
    choice = special.softmax(-(distances**2) / 0.3, axis=1)
    expected = stats.entropy(choice, axis=1).mean() - stats.entropy(choice.mean(0))
    assert float(soft_entropy(z, codes, 0.3)) == pytest.approx(expected, rel=1e-4)

    def on_each(z):
        return jax.lax.pmean(soft_entropy(z, codes, 0.3, "data"), "data")

    shared = sharded(on_each, 4, (P("data"),), P())
    assert float(shared(z)) == pytest.approx(expected, rel=1e-4)


def test_its_gradient_is_finite_where_choices_are_hard():
    gradient = jax.grad(lambda z: soft_entropy(z, normal(7, 3, seed=1), 1e-6))(normal(8, 3))
    assert np.all(np.isfinite(gradient))


def test_entropy_makes_latents_choose_all_codes(key):
    quantizer = tiny(SimVQQuantizer, code_entropy=1.0, code_temperature=0.2)
    z = 0.2 * normal(4, 4, 4, D)
    variables = random_variables(quantizer, z, False)

    def used(z):
        return len(np.unique(train(quantizer, variables, z, key)[0].codes))

    @jax.jit
    def descend(z):
        return z - 2.0 * jax.grad(lambda z: train(quantizer, variables, z, key)[0].loss)(z)

    before = used(z)
    for _ in range(100):
        z = descend(z)
    assert used(z) == K > before


def test_matching_spreads_latents_evenly_over_all_directions(key):
    quantizer = tiny(matching=1.0, commitment=0.0)
    z = normal(4, 4, 4, D) * jnp.array([[[[3.0, 1.0, 0.1]]]])
    variables = random_variables(quantizer, z, False)

    @jax.jit
    def descend(z):
        return z - 20.0 * jax.grad(lambda z: train(quantizer, variables, z, key)[0].loss)(z)

    for _ in range(100):
        z = descend(z)
    spread = (
        np.linalg.svd(np.reshape(z - z.mean((0, 1, 2), keepdims=True), (-1, D)), compute_uv=False)
        / 8
    )
    np.testing.assert_allclose(spread, 1, atol=0.05)


def lloyd(rows, centres):
    for _ in range(KMEANS_ITERATIONS):
        codes = nearest_by_brute_force(rows, centres)
        centres = np.array(
            [
                rows[codes == code].mean(0) if (codes == code).any() else old
                for code, old in enumerate(centres)
            ]
        )
    return centres


def test_kmeans_is_lloyds_and_the_same_on_several_devices():
    rows, first = normal(64, D), 10 * normal(K, D, seed=1)
    first = first.at[0].set(100.0)  # that nothing chooses
    expected = lloyd(np.asarray(rows, np.float64), np.asarray(first, np.float64))
    np.testing.assert_allclose(jax.jit(kmeans)(rows, first), expected, rtol=1e-4, atol=1e-5)
    shared = sharded(lambda z, c: kmeans(z, c, "data"), 2, (P("data"), P()), P())
    np.testing.assert_allclose(shared(rows, first), expected, rtol=1e-4, atol=1e-5)


def test_first_batch_fills_the_codebook_with_its_centres_and_later_ones_do_not(key):
    quantizer, z = EMAQuantizer(codebook_size=2, code_dim=D, fill="kmeans"), normal(2, 4, 4, D)
    z = jnp.where(jnp.arange(4)[:, None, None] < 2, z - 10, z + 10)
    empty = quantizer.init(key, z, False)
    _, state = train(quantizer, empty, z, key)
    table = state["codebook"]["embedding"]
    order = np.argsort(table[:, 0])
    means = np.stack([z[:, :2].mean((0, 1, 2)), z[:, 2:].mean((0, 1, 2))])
    np.testing.assert_allclose(np.asarray(table)[order], means, atol=0.05)
    _, later = train(quantizer, state, z + 1, key)
    np.testing.assert_allclose(later["codebook"]["embedding"], table, atol=0.2)
