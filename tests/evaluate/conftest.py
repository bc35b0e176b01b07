"""Networks of a line each in the place of those that need weight files."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq.evaluate import network_metrics
from avq.networks.weights import Weights


@pytest.fixture
def small_networks(monkeypatch):
    """Features are the mean colour; the perceptual distance is the mean absolute difference."""

    class Difference:
        def __init__(self, kind):
            pass

        def apply(self, variables, images, targets):
            return variables["scale"] * jnp.mean(jnp.abs(images - targets), axis=(1, 2, 3))

    def mean_colour(variables, images):
        return variables["scale"] * jnp.mean(images.astype(jnp.float32), axis=(1, 2))

    def read_weights(*files):
        return Weights("file", {}, "+".join(f"digest of {file}" for file in files))

    scale = {"scale": np.float32(2)}
    monkeypatch.setattr(network_metrics, "read_weights", read_weights)
    monkeypatch.setattr(network_metrics, "FEATURES", 3)
    monkeypatch.setattr(network_metrics, "inception_variables", lambda weights: scale)
    monkeypatch.setattr(network_metrics, "inception_features", mean_colour)
    monkeypatch.setattr(network_metrics, "lpips_variables", lambda weights: ("vgg", scale))
    monkeypatch.setattr(network_metrics, "LPIPS", Difference)
