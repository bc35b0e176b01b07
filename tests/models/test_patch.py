"""The patch architecture: moves between pixels and channels, its start, and the whole model."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.patch import UpPatches, depth_to_space, space_to_depth
from avq.models.quantizers import EMAQuantizer
from avq.models.vqvae import VQVAE

from .model_helpers import normal, random_variables


def small(**fields):
    make = partial(EMAQuantizer, codebook_size=8, code_dim=4, revive_below=0.0)
    settings: dict[str, Any] = {
        "architecture": "patch",
        "patch": 2,
        "width": 6,
        "norm": "rms",
        "decoder_inputs": "all",
        "attention_dim": 5,
        "encoder_blocks": 1,
        "make_quantizer": make,
    }
    return VQVAE(**(settings | fields))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_squares_of_pixels_become_channels_and_back(side):
    x = np.arange(2 * 6 * 12 * 5, dtype=np.float32).reshape(2, 6, 12, 5)
    deep = np.asarray(space_to_depth(jnp.asarray(x), side))
    assert deep.shape == (2, 6 // side, 12 // side, side * side * 5)
    for b, i, j in np.ndindex(deep.shape[:3]):
        square = x[b, i * side : (i + 1) * side, j * side : (j + 1) * side]
        np.testing.assert_array_equal(deep[b, i, j], square.ravel())
    np.testing.assert_array_equal(depth_to_space(jnp.asarray(deep), side), x)


def test_up_sampling_begins_flat_where_its_input_is(key):
    x = jnp.broadcast_to(normal(2, 1, 1, 3), (2, 5, 5, 3))
    y = UpPatches(4).init_with_output(key, x)[0][:, 2:-2, 2:-2]  # off the border
    assert np.std(y) > 0.1
    chex.assert_trees_all_close(y, jnp.broadcast_to(y[:, :1, :1], y.shape), atol=1e-5)


def test_decoding_the_codes_is_the_reconstruction():
    model, images = small(), normal(2, 8, 12, 3)
    variables = random_variables(model, images)
    codes = jax.jit(partial(model.apply, method="encode"))(variables, images)
    result = jax.jit(model.apply)(variables, images)
    assert [grid.shape for grid in codes] == [(2, 4, 6), (2, 2, 3)]
    chex.assert_trees_all_equal(codes, tuple(q.codes for q in result.levels))
    decoded = jax.jit(partial(model.apply, method="decode"))(variables, codes)
    chex.assert_trees_all_close(decoded, result.images, atol=1e-5)


@pytest.mark.parametrize("inputs", ["finest", "all"])
@pytest.mark.parametrize("levels", [1, 3])
def test_grids_and_stride_foretell_the_codes(levels, inputs, key):
    model = small(levels=levels, patch=4, decoder_inputs=inputs)
    side = 2 * model.stride()
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    result, _ = jax.eval_shape(lambda x: model.init_with_output(key, x), images)
    assert side == 2 * 4 * 2 ** (levels - 1)
    assert [q.codes.shape[1:] for q in result.levels] == [(n, n) for n in model.grids(side)]
    chex.assert_shape(result.images, images.shape)
    assert model.decoded_levels() == (levels if inputs == "all" else 1)


def test_coarser_codes_reach_finer_ones_and_the_image(key):
    model, images = small(), normal(1, 8, 8, 3)
    variables = random_variables(model, images)

    def with_coarse(table):
        changed = jax.tree.map(lambda x: x, variables)
        changed["codebook"]["encoder"]["quantizers_1"]["embedding"] = table
        return model.apply(changed, images)

    table = variables["codebook"]["encoder"]["quantizers_1"]["embedding"]
    one, other = with_coarse(table), with_coarse(3 - 2 * table)
    assert np.max(np.abs(one.levels[0].vectors - other.levels[0].vectors)) > 1e-3
    fine = one.levels[0].codes
    decode = jax.jit(partial(model.apply, method="decode"))
    before, after = (decode(variables, (fine, jnp.full((1, 2, 2), code))) for code in (0, 3))
    assert np.min(np.max(np.abs(before - after), axis=-1)) > 0


def test_training_reaches_every_parameter(key):
    model = small(make_quantizer=partial(EMAQuantizer, codebook_size=8, code_dim=4))
    images, weight = normal(2, 8, 8, 3), normal(2, 8, 8, 3, seed=1)
    variables = random_variables(model, images)
    codebook = {"codebook": variables["codebook"]}

    @jax.jit
    @jax.grad
    def gradients(params):
        rngs = {"codebook": key}
        result, _ = model.apply(
            {"params": params} | codebook, images, True, mutable=["codebook"], rngs=rngs
        )
        return jnp.sum(weight * result.images) + sum(q.loss for q in result.levels)

    for path, leaf in jax.tree.leaves_with_path(gradients(variables["params"])):
        assert np.max(np.abs(leaf)) > 1e-5, jax.tree_util.keystr(path)
