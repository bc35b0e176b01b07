"""LPIPS against the package lpips with the same weights, and its weight files."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from avq.errors import InputError
from avq.networks.lpips import LPIPS, SMALLEST, Features, lpips_variables, normalised
from avq.networks.weights import read_weights

from .random_weights import random_images


def pair():
    """Images and targets in [-1, 1]."""
    return [jnp.float32(random_images(2, 48, 64, seed)) / 127.5 - 1 for seed in (0, 1)]


@pytest.fixture(scope="module")
def variables(weight_file):
    return {kind: lpips_variables(read_weights(weight_file(kind)))[1] for kind in ("vgg", "alex")}


@pytest.mark.parametrize("kind", ["vgg", "alex"])
def test_distances_equal_those_of_the_package_lpips(variables, expected, kind):
    distances = jax.jit(LPIPS(kind).apply)(variables[kind], *pair())
    np.testing.assert_allclose(distances, expected[kind], atol=1e-4)


@pytest.mark.parametrize(("kind", "below"), [("vgg", 15), ("alex", 30)])
def test_smallest_images_leave_one_position_of_the_last_maps(kind, below):
    def last_maps(side):
        images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        return jax.eval_shape(Features(kind).init_with_output, jax.random.key(0), images)[0][-1]

    assert SMALLEST[kind] == below + 1
    assert last_maps(below + 1).shape[1:3] == (1, 1)
    assert last_maps(below).size == 0


def test_gradient_is_finite_where_features_or_differences_vanish():
    maps = jnp.float32([[[[0, 0], [3, 4]]]])
    unit, gradient = jax.vjp(normalised, maps)
    np.testing.assert_allclose(unit, np.array([[[[0, 0], [0.6, 0.8]]]]), rtol=1e-6)
    assert np.all(np.isfinite(gradient(jnp.ones_like(maps))[0]))


@pytest.mark.parametrize("kind", ["vgg", "alex"])
def test_files_of_network_and_heads_are_read_together(
    weight_file, tensors, variables, kind, tmp_path
):
    paths = tmp_path / "network.safetensors", tmp_path / "heads.safetensors"
    heads = {name: tensor for name, tensor in tensors(kind).items() if name.startswith("lin")}
    network = {
        re.sub(r"net\.slice\d\.", "features.", name): tensor
        for name, tensor in tensors(kind).items()
        if name not in heads
    }
    for path, content in zip(paths, (network, heads), strict=True):
        save_file(content, path)
    found, read = lpips_variables(read_weights(*paths))
    assert found == kind
    jax.tree.map(np.testing.assert_array_equal, read, variables[kind])


def test_a_network_without_heads_is_refused(tensors, tmp_path):
    network = {k: tensor for k, tensor in tensors("alex").items() if not k.startswith("lin")}
    save_file(network, tmp_path / "network.safetensors")
    with pytest.raises(InputError, match=r"is not LPIPS of AlexNet's weights: lacks lin0\.weight"):
        lpips_variables(read_weights(tmp_path / "network.safetensors"))
