"""Residual and product quantisation against their definitions in numpy."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.errors import InputError
from avq.models.quantizers import EMAQuantizer, ProductQuantizer, ResidualQuantizer

from ..model_helpers import normal, random_variables
from .quantizer_helpers import nearest_by_brute_force, train

KINDS = {
    "residual": ResidualQuantizer(codebook_size=27, code_dim=4, parts=3),
    "product": ProductQuantizer(codebook_size=9, code_dim=4, parts=2),
}
both = pytest.mark.parametrize("quantizer", KINDS.values(), ids=KINDS)


def tables_of(variables):
    return [
        variables["codebook"][f"codebooks_{i}"]["embedding"]
        for i in range(3)
        if i < len(variables["codebook"])
    ]


def by_numpy(quantizer, tables, rows):
    """Codes of each codebook, vectors and the squared errors of each codebook."""
    digits, errors = [], []
    if isinstance(quantizer, ProductQuantizer):
        vectors = []
        for table, own in zip(tables, np.split(rows, 2, axis=1), strict=True):
            digits.append(nearest_by_brute_force(own, table))
            vectors.append(np.asarray(table)[digits[-1]])
            errors.append(np.mean((own - vectors[-1]) ** 2))
        return digits, np.concatenate(vectors, axis=1), np.mean(errors)
    left = np.array(rows)
    for table in tables:
        digits.append(nearest_by_brute_force(left, table))
        left -= np.asarray(table)[digits[-1]]
        errors.append(np.mean(left**2))
    return digits, rows - left, np.sum(errors)


@both
def test_codes_vectors_and_loss_are_those_of_the_definition(quantizer, key):
    z = normal(2, 3, 4, 4)
    variables = random_variables(quantizer, z, False)
    rows = np.asarray(z, np.float64).reshape(-1, 4)
    digits, vectors, error = by_numpy(quantizer, tables_of(variables), rows)
    result, _ = train(quantizer, variables, z, key)
    codes = sum(digit * 3**place for place, digit in enumerate(digits))
    np.testing.assert_array_equal(np.ravel(result.codes), codes)
    np.testing.assert_allclose(result.vectors.reshape(-1, 4), vectors, atol=1e-5)
    assert float(result.loss) == pytest.approx(0.25 * error, rel=1e-4)
    table = np.asarray(quantizer.apply(variables, method="codebook"))
    assert table.shape == (quantizer.codebook_size, 4)
    np.testing.assert_allclose(table[codes], vectors, atol=1e-5)
    looked_up = quantizer.apply(variables, result.codes, method="lookup")
    np.testing.assert_allclose(looked_up, result.vectors, atol=1e-6)
    expected = np.bincount(codes, minlength=len(table))
    np.testing.assert_array_equal(result.statistics.counts, expected)


@both
def test_gradient_passes_once_and_not_once_a_codebook(quantizer, key):
    z, weight = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    variables = random_variables(quantizer, z, False)
    gradient = jax.grad(lambda z: jnp.sum(weight * train(quantizer, variables, z, key)[0].vectors))
    chex.assert_trees_all_close(gradient(z), weight, rtol=1e-6)


def test_product_of_one_part_is_the_ema_quantiser(key):
    """Both start from the same codes; nothing is drawn at random after that."""
    z = normal(2, 3, 4, 4)
    fields: Any = {"codebook_size": 5, "code_dim": 4, "revive_below": 0.0}
    alone, part = EMAQuantizer(**fields), ProductQuantizer(**fields, parts=1)
    variables = random_variables(alone, z, False)
    result, after = train(alone, variables, z, key)
    state = {"codebook": {"codebooks_0": variables["codebook"]}}
    compound, compound_after = train(part, state, z, key)
    chex.assert_trees_all_close(compound.vectors, result.vectors)
    chex.assert_trees_all_close(compound.loss, result.loss)
    chex.assert_trees_all_close(compound_after["codebook"]["codebooks_0"], after["codebook"])


def test_each_codebook_of_residuals_takes_more_off_the_error(key):
    z = normal(8, 4, 4, 4)
    errors = []
    for parts, size in ((1, 4), (2, 16), (3, 64)):
        quantizer = ResidualQuantizer(codebook_size=size, code_dim=4, parts=parts, fill="kmeans")
        state = quantizer.init(key, z, False)
        for step in range(10):
            result, state = train(quantizer, state, z, jax.random.fold_in(key, step))
        errors.append(float(jnp.mean((z - result.vectors) ** 2)))
    assert errors[0] > 1.3 * errors[1] > 1.3 * 1.3 * errors[2]


def test_statistics_of_micro_batches_take_turns_in_every_codebook(key):
    quantizer, z = KINDS["residual"], normal(2, 3, 4, 4)
    variables = random_variables(quantizer, z, False)
    statistics = train(quantizer, variables, z, key)[0].statistics
    first, second = (statistics.in_turns(turn, 2) for turn in range(2))
    total = jax.tree.map(jnp.add, first, second)
    for part, whole in zip(total.parts, statistics.parts, strict=True):
        chex.assert_trees_all_equal(part.candidates, whole.candidates)
        assert not np.any(first.parts[0].candidates[1::2])


@pytest.mark.parametrize("kind", [ResidualQuantizer, ProductQuantizer])
def test_size_that_is_no_power_is_refused_and_the_nearest_named(kind):
    problem = r"codebook_size=1000 is not .* model.parts=2 .* The nearest are 961 and 1024\."
    with pytest.raises(InputError, match=problem):
        kind(codebook_size=1000, code_dim=4)
    kind(codebook_size=2**24, code_dim=8, parts=8)  # whose root is no whole number in floats


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match=r"code_dim=5 channels .* model\.parts=2 equal parts"):
        ProductQuantizer(codebook_size=9, code_dim=5)
