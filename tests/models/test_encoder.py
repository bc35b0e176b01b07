"""Base encoder, AREN levels and their chain, against compositions of the parts by hand."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.attention import PixelAttention
from avq.models.blocks import Id, Res
from avq.models.convolutions import UpConv
from avq.models.encoder import AREN, BaseEncoder, Encoder, Trunk
from avq.models.quantizers import EMAQuantizer

from .model_helpers import normal, part, random_variables, size

WIDTH, CODES = 4, 8


def tiny_quantizer(level):
    """A quantiser whose codebook is the larger, the coarser its level."""
    return EMAQuantizer(codebook_size=level * CODES, code_dim=WIDTH)


def tiny_encoder(levels):
    """An encoder of one halving and `levels` levels, one block a stage."""
    return Encoder(
        BaseEncoder((3, 3), WIDTH, blocks=1),
        [AREN((3,) * level, WIDTH, blocks=1, attention_dim=2) for level in range(1, levels + 1)],
        [tiny_quantizer(level) for level in range(1, levels + 1)],
    )


def chain_by_hand(encoder, variables, x):
    """Latents and results of every level, finest first."""
    levels = len(encoder.arens)
    base = BaseEncoder((3, 3), WIDTH, blocks=1).apply(part(variables, "base"), x, False)
    latents: list[jax.Array] = []
    results: list[Any] = []
    for level in range(levels, 0, -1):
        aren: Any = AREN((3,) * level, WIDTH, blocks=1, attention_dim=2)
        z = aren.apply(part(variables, f"arens_{level - 1}"), base, False)
        if level < levels:
            resize: Any = UpConv(WIDTH)
            upper = resize.apply(part(variables, f"resize{level + 1}"), results[0].vectors)
            z = jnp.concatenate([upper, z], axis=-1)
        if level < levels or levels == 1:
            z = nn.Conv(WIDTH, (1, 1)).apply(part(variables, f"combine{level}"), z)
        latents.insert(0, z)
        quantizer = tiny_quantizer(level)
        results.insert(0, quantizer.apply(part(variables, f"quantizers_{level - 1}"), z, False))
    return latents, tuple(results)


@pytest.mark.parametrize(
    ("module", "width", "side", "expected"),
    [
        (BaseEncoder((128, 128, 128), 256), 3, 64, 1_949_952),
        (AREN((128,), 256), 256, 32, 3_059_200),
        (AREN((128,) * 2, 256), 256, 16, 4_015_872),
        (AREN((128,) * 3, 256), 256, 8, 4_972_544),
        (AREN((128,), 256, attention_norm="off"), 256, 32, 3_059_200 - 33_024),
    ],
    ids=["base", "aren1", "aren2", "aren3", "aren1-without-attention"],
)
def test_module_has_the_size_and_output_of_the_papers_table(key, module, width, side, expected):
    grid = 256 if isinstance(module, BaseEncoder) else 64
    x = jax.ShapeDtypeStruct((1, grid, grid, width), jnp.float32)
    y, variables = jax.eval_shape(lambda x: module.init_with_output(key, x, False), x)
    chex.assert_shape(y, (1, side, side, 256))
    assert size(variables) == expected
    if isinstance(module, AREN):
        attention = variables["params"].get("attention", {})
        assert size(attention) == (0 if module.attention_norm == "off" else 33_024)


@pytest.mark.parametrize("stride_at", ["first", "last"])
def test_trunk_is_identity_blocks_then_a_halving_in_every_stage(stride_at):
    x = normal(2, 8, 4, 2)
    trunk = Trunk((3, 5), blocks=2, stride_at=stride_at)
    variables = random_variables(trunk, x, False)

    @jax.jit
    def both(variables, x):
        h = x
        for stage, features in enumerate((3, 5)):
            for block in (2 * stage, 2 * stage + 1):
                h = Id().apply(part(variables, f"Id_{block}"), h, False)
            h = Res(features, stride_at).apply(part(variables, f"Res_{stage}"), h, False)
        return trunk.apply(variables, x, False), h

    actual, expected = both(variables, x)
    chex.assert_shape(actual, (2, 2, 1, 5))
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["off", "mean"])
def test_aren_is_trunk_then_attention_then_a_1x1_convolution(norm):
    x = normal(2, 4, 4, 3)
    aren = AREN((3,), 5, blocks=1, attention_dim=2, attention_norm=norm)
    variables = random_variables(aren, x, False)

    @jax.jit
    def both(variables, x):
        h = Trunk((3,), blocks=1).apply(part(variables, "trunk"), x, False)
        if norm != "off":
            h = PixelAttention(2, norm=norm).apply(part(variables, "attention"), h)
        h = nn.Conv(5, (1, 1)).apply(part(variables, "project"), h)
        return aren.apply(variables, x, False), h

    chex.assert_trees_all_close(*both(variables, x), rtol=1e-4, atol=1e-5)


def test_latents_pass_and_cost_nothing_while_they_are_not_quantised():
    x, encoder = normal(2, 16, 16, 3), tiny_encoder(2)
    variables = random_variables(encoder, x, False)
    plain, on, off = (
        encoder.apply(variables, x, False, quantizes)
        for quantizes in (None, jnp.array(True), jnp.array(False))
    )
    chex.assert_trees_all_equal(plain, on)
    latents, _ = chain_by_hand(encoder, variables, x)
    chex.assert_trees_all_close(off[1].vectors, latents[1], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal(off[1].codes, on[1].codes)
    assert np.abs(off[1].vectors - on[1].vectors).max() > 0.1
    assert [float(level.loss) for level in off] == [0.0, 0.0]
    assert all(float(level.loss) > 0 for level in on)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_every_level_is_joined_to_the_quantised_level_above(levels):
    x = normal(2, 16, 32, 3)
    encoder = tiny_encoder(levels)
    variables = random_variables(encoder, x, False)

    @jax.jit
    def both(variables, x):
        results = encoder.apply(variables, x, False)
        return results, chain_by_hand(encoder, variables, x)[1]

    actual, expected = both(variables, x)
    shapes = [(2, 4 >> level, 8 >> level) for level in range(levels)]
    chex.assert_equal([r.codes.shape for r in actual], shapes)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_finer_latents_depend_on_coarser_codes_and_not_the_other_way():
    x = normal(2, 16, 16, 3)
    encoder = tiny_encoder(2)
    variables = random_variables(encoder, x, False)

    @jax.jit
    def latents_and_codes(variables):
        results, state = encoder.apply(
            variables, x, False, capture_intermediates=True, mutable=["intermediates"]
        )
        seen = state["intermediates"]
        latents = seen["combine1"]["__call__"][0], seen["arens_1"]["__call__"][0]
        return latents, [r.codes for r in results]

    def with_other_codebook(level):
        codebook = dict(variables["codebook"])
        name = f"quantizers_{level - 1}"
        codebook[name] = jax.tree.map(lambda a: a + 1, codebook[name])
        return latents_and_codes(variables | {"codebook": codebook})

    (fine, coarse), codes = latents_and_codes(variables)
    (fine_after, coarse_after), _ = with_other_codebook(2)
    assert np.min(np.max(np.abs(fine_after - fine), axis=-1)) > 1e-3
    chex.assert_trees_all_equal(coarse_after, coarse)
    (fine_after, coarse_after), codes_after = with_other_codebook(1)
    chex.assert_trees_all_equal((fine_after, coarse_after), (fine, coarse))
    chex.assert_trees_all_equal(codes_after[1], codes[1])
