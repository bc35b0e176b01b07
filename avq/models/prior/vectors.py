"""The autoencoder's vectors as the start of a prior's embeddings."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

TABLE = "codes"  # name of the `nn.Embed` of all levels' codes, finest level first
NOISE = 0.1


def with_vectors(params: Any, vectors: Sequence[Float[np.ndarray, "_k _d"]], key: Array) -> Any:
    """Parameters of a prior whose codes begin near one another where their vectors are: with the
    vectors of each level, less their mean and of unit variance along their main direction, in the
    first channels of the table, and noise in the others.

    Args:
        params: of a prior.
        vectors: of each level's codes, finest first.
        key: of the noise.
    """

    def started(path: Any, leaf: Array) -> Array:
        if not any(getattr(part, "key", None) == TABLE for part in path):
            return leaf
        table, row = NOISE * jax.random.normal(key, leaf.shape), 0
        for level in vectors:
            centred = level - level.mean(axis=0)
            spread = np.linalg.norm(centred, 2) / len(level) ** 0.5
            channels = min(centred.shape[1], leaf.shape[1])
            rows = slice(row, row + len(level))
            table = table.at[rows, :channels].add(centred[:, :channels] / max(spread, 1e-6))
            row += len(level)
        return table

    return jax.tree_util.tree_map_with_path(started, params)
