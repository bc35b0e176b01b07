"""InceptionV3 against torch-fidelity's network with the same weights, and other weight files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.errors import InputError
from avq.networks.inception import inception_features, inception_variables, resize_bilinear
from avq.networks.weights import read_weights

from .random_weights import random_images


def test_features_equal_those_of_torch_fidelity(weight_file, expected):
    variables = inception_variables(read_weights(weight_file("inception")))
    features = jax.jit(inception_features)(variables, random_images(2, 52, 75))
    assert features.shape == (2, 2048)
    np.testing.assert_allclose(features, expected["inception"], atol=1e-3)


def test_images_are_resized_as_by_torch_fidelity(expected):
    resized = resize_bilinear(jnp.float32(random_images(2, 52, 75)), 67)
    np.testing.assert_allclose(resized, expected["resized"], atol=1e-4)


def test_images_of_299_pixels_are_left_as_they_are():
    images = jnp.float32(random_images(1, 299, 299))
    np.testing.assert_array_equal(resize_bilinear(images, 299), images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.weight": (1000, 2048)}, r"fc.weight has shape \(1000, 2048\), not \(1008, 2048\)"),
        (
            {"Mixed_7c.branch_pool.bn.running_var": None},
            "lacks Mixed_7c.branch_pool.bn.running_var",
        ),
    ],
)
def test_weights_of_another_network_are_refused(weight_file, change, message):
    weights = read_weights(weight_file("inception"))
    for name, shape in change.items():
        weights.tensors.pop(name)
        if shape:
            weights.tensors[name] = np.zeros(shape, np.float32)
    with pytest.raises(InputError, match=rf"is not InceptionV3's weights: {message}\.$"):
        inception_variables(weights)
