"""A model of few lines, and images, for tests of the evaluation."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from avq.data.dataset import ImageSet, Summary
from avq.data.sources import open_source

SUMMARY = Summary({"train": 16, "test": 4}, 0.0, 0.5, 0.25, 16, 0)


class Dimmer:
    """Stand-in for an autoencoder: reconstructs images times the variable 'gain', and has two
    levels of codes, by brightness.
    """

    def __init__(self):
        self.traces = 0

    def apply(self, variables, /, *arguments, method=None):
        if method == "codebooks":
            return np.eye(4), np.eye(2)
        (images,) = arguments
        self.traces += 1
        bright = jnp.mean(images, axis=-1)
        fine, coarse = bright[:, ::2, ::2] > 0, bright[:, ::4, ::4] > 0
        levels = [SimpleNamespace(codes=codes.astype(jnp.int32)) for codes in (fine, coarse)]
        return SimpleNamespace(images=images * variables["gain"], levels=levels)

    def codebook_sizes(self):
        return (4, 2)

    def decoded_levels(self):
        return 2

    def bits_per_pixel(self, image_size):
        return 0.5625


def image_set(folder, max_rejected=0.01):
    return ImageSet(open_source(str(folder)), max_rejected)
