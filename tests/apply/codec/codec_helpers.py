"""Networks of random integers, and grids to code with them."""

import numpy as np

from avq.apply.codec.network import LIKELIEST, Network, digits
from avq.apply.codec.order import kinds, slots


def random_network(seed: int, codes: int, parent: int = 0, sharpness: int = 4) -> Network:
    """A network for so many codes; `sharpness` bits make its predictions more or less even."""
    rng = np.random.default_rng(seed)
    n, hidden, dim = kinds(parent > 0), 8, 3
    inputs = slots(parent > 0) * dim
    clusters, places = digits(codes)

    def integers(largest, *shape):
        return rng.integers(-largest, largest + 1, shape)

    return Network(
        embeddings=integers(127, codes + 1 + (parent + 1 if parent else 0), dim),
        ranks=rng.permutation(codes),
        first=integers(60, n, inputs, hidden),
        first_bias=integers(999, n, hidden),
        clusters=integers(30, hidden + 1, clusters),
        places=integers(30, clusters, hidden + 1, places),
        shifts=np.array([7, sharpness, sharpness]),
        decay=np.round(LIKELIEST * np.exp(-np.arange(350) / 32)).astype(np.int64),
    )


def random_grids(rng, shapes, sizes):
    """Grids of codes of which some are far likelier than others."""
    return tuple(
        np.minimum(rng.geometric(rng.uniform(0.01, 0.9), shape) - 1, size - 1).astype(np.int32)
        for shape, size in zip(shapes, sizes, strict=True)
    )
