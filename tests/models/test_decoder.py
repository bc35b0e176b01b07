"""The decoder against its blocks in a row, and which levels it reads."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.blocks import Id, Up
from avq.models.decoder import Decoder

from .model_helpers import normal, part, random_variables, size

FILTERS = (4, 5, 3)


def three_levels():
    """Code vectors of three levels for two images of 32 x 16."""
    return [normal(2, 8 >> level, 4 >> level, 2, seed=level) for level in range(3)]


def test_size_and_output_are_the_papers(key):
    codes = jax.ShapeDtypeStruct((1, 32, 32, 256), jnp.float32)
    model = Decoder((128, 128, 128, 128))
    images, variables = jax.eval_shape(lambda q: model.init_with_output(key, [q], False), codes)
    chex.assert_shape(images, (1, 256, 256, 3))
    assert size(variables) == 2_225_795
    assert size(variables["params"]["stem"]) == 295_040


@pytest.mark.parametrize("blocks", [1, 2])
def test_decoder_is_stem_then_stages_then_a_linear_convolution(blocks):
    levels = three_levels()[:1]
    model = Decoder(FILTERS, blocks=blocks)
    variables = random_variables(model, levels, False)

    def by_hand(variables, h):
        h = nn.Conv(FILTERS[0], (3, 3)).apply(part(variables, "stem"), h)
        for stage, features in enumerate(FILTERS[1:]):
            for block in range(stage * blocks, (stage + 1) * blocks):
                h = Id().apply(part(variables, f"Id_{block}"), h, False)
            h = Up(features).apply(part(variables, f"Up_{stage}"), h, False)
        return nn.Conv(3, (1, 1)).apply(part(variables, "to_rgb"), h)

    @jax.jit
    def both(variables, levels):
        return model.apply(variables, levels, False), by_hand(variables, levels[0])

    actual, expected = both(variables, levels)
    chex.assert_shape(actual, (2, 32, 16, 3))
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("inputs", "read"), [("finest", [0]), ("all", [0, 1, 2])])
def test_decoder_reads_the_levels_of_its_inputs(inputs, read):
    levels = three_levels()
    model = Decoder(FILTERS, inputs)
    variables = random_variables(model, levels, False)
    decode = jax.jit(lambda levels: model.apply(variables, levels, False))
    before = decode(levels)
    for level in range(3):
        changed = [2 * q if i == level else q for i, q in enumerate(levels)]
        after = decode(changed)
        if level in read:
            assert np.max(np.abs(after - before)) > 1e-3
        else:
            chex.assert_trees_all_equal(after, before)


def test_coarser_levels_arrive_at_the_place_they_describe():
    """A coarse vector changes only the image around its own patch."""
    levels = [normal(1, 16, 16, 2), normal(1, 8, 8, 2, seed=1)]
    model = Decoder((3, 3), "all")
    variables = random_variables(model, levels, False)
    decode = jax.jit(lambda levels: model.apply(variables, levels, False))
    moved = [levels[0], levels[1].at[0, 2, 5].add(1.0)]
    changed = np.any(np.asarray(decode(moved) != decode(levels)), axis=(0, 3))
    rows, columns = np.nonzero(changed)
    # its patch is rows 8 to 11 and columns 20 to 23; the convolutions widen it
    assert rows.min() > 8 - 8
    assert rows.max() < 12 + 12
    assert columns.min() > 20 - 8
    assert columns.max() <= 31
    assert changed[8:12, 20:24].all()


def test_bfloat16_decoder_returns_float32_images():
    levels = three_levels()
    half, exact = (Decoder((4, 4), "all", dtype=d) for d in (jnp.bfloat16, jnp.float32))
    variables = random_variables(half, levels, False)
    images, expected = jax.jit(lambda v, q: (half.apply(v, q, False), exact.apply(v, q, False)))(
        variables, levels
    )
    chex.assert_type([images, *jax.tree.leaves(variables)], jnp.float32)
    chex.assert_trees_all_close(images, expected, rtol=0.05, atol=0.1)
