"""The code search against brute force in float64, at once and in blocks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from avq.models.quantizers import search
from avq.models.quantizers.search import nearest_code

from ..model_helpers import normal, sharded

BLOCKS = pytest.mark.parametrize("blocks", [None, (4, 3), (1, 1), (64, 5)], ids=str)


@pytest.fixture
def small_blocks(blocks, monkeypatch):
    """Blocks so small that few tokens and codes take many, or those of the module for None."""
    if blocks is not None:
        monkeypatch.setattr(search, "TOKEN_BLOCK", blocks[0])
        monkeypatch.setattr(search, "CODE_BLOCK", blocks[1])


def nearest_by_brute_force(z, table):
    z, table = np.asarray(z, np.float64), np.asarray(table, np.float64)
    return np.argmin(((z[:, None] - table) ** 2).sum(-1), axis=1)


@BLOCKS
@pytest.mark.parametrize(("n", "k"), [(30, 17), (8, 40), (301, 1), (1, 301)])
@pytest.mark.usefixtures("small_blocks")
def test_nearest_code_is_brute_force_in_float64(n, k):
    z, table = normal(n, 5), normal(k, 5, seed=1)
    codes = nearest_code(z, table)
    chex.assert_type(codes, jnp.int32)
    np.testing.assert_array_equal(codes, nearest_by_brute_force(z, table))
    chex.assert_trees_all_equal(jax.jit(nearest_code)(z, table), codes)


@pytest.mark.parametrize("offset", [1000.0, 3000.0])
@BLOCKS
@pytest.mark.usefixtures("small_blocks")
def test_offset_that_latents_and_codes_share_changes_no_code(offset):
    z, table = normal(40, 256, mean=offset), normal(30, 256, seed=1, mean=offset)
    expected = nearest_by_brute_force(z, table)
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(nearest_code(z, table), expected)


@BLOCKS
@pytest.mark.usefixtures("small_blocks")
def test_lowest_index_wins_a_tie_wherever_the_others_are():
    rng = np.random.default_rng(0)
    distinct = rng.integers(-2, 3, (6, 3)).astype(np.float32)  # integers: distances are exact
    table = distinct[rng.permutation(np.repeat(np.arange(6), 5))]
    z = rng.integers(-3, 4, (50, 3)).astype(np.float32)
    codes = nearest_code(jnp.asarray(z), jnp.asarray(table))
    np.testing.assert_array_equal(codes, nearest_by_brute_force(z, table))


@BLOCKS
@pytest.mark.usefixtures("small_blocks")
def test_token_that_is_not_finite_still_gets_a_code():
    z = jnp.asarray([[jnp.nan, 0.0], [jnp.inf, 0.0], [2.0, 2.0]])
    table = jnp.asarray([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    codes = nearest_code(z, table)
    assert jnp.all((codes >= 0) & (codes < 5))
    assert codes[2] == 2


@pytest.mark.parametrize(("n", "k"), [(2049, 1100), (5000, 300)])
def test_blocks_of_full_size_give_what_one_product_gives(n, k, monkeypatch):
    z, table = normal(n, 8), normal(k, 8, seed=1)
    blockwise = nearest_code(z, table)
    monkeypatch.setattr(search, "TOKEN_BLOCK", n * k)
    chex.assert_trees_all_equal(nearest_code(z, table), blockwise)


@pytest.mark.parametrize(("n", "k", "d"), [(65_536, 16_384, 64), (4096, 262_144, 32)])
def test_large_search_takes_little_memory(n, k, d):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, d), (k, d))]
    memory = jax.jit(nearest_code).lower(*shapes).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 64 * 2**20


@BLOCKS
@pytest.mark.parametrize("spec", [P(), P("data")], ids=["same-codes", "other-codes"])
@pytest.mark.usefixtures("small_blocks")
def test_search_on_two_devices_is_each_ones_own(spec):
    z, table = normal(20, 5), normal(26, 5, seed=1)
    codes = sharded(nearest_code, 2, (P("data"), spec), P("data"))(z, table)
    tables = (table, table) if spec == P() else (table[:13], table[13:])
    expected = [nearest_by_brute_force(a, b) for a, b in zip((z[:10], z[10:]), tables, strict=True)]
    np.testing.assert_array_equal(codes, np.concatenate(expected))
