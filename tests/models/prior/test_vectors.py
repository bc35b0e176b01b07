"""The autoencoder's vectors as the start of embeddings."""

import jax
import numpy as np
import pytest

from avq.models.prior.vectors import NOISE, with_vectors

from .prior_helpers import SIZES, small


@pytest.mark.parametrize("kind", ["transformer", "pixelcnn", "masked"])
def test_distances_of_codes_are_those_of_their_vectors(kind):
    _, variables = small(kind)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(loc=3, scale=100, size=(size, 3)) for size in SIZES]
    params = with_vectors(variables["params"], vectors, jax.random.key(0))
    changed = jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda a, b: bool((a != b).any()), params, variables["params"])
    )
    assert [path[-2].key for path, differs in changed if differs] == ["codes"]
    (table,) = (leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
                if path[-2].key == "codes")  # fmt: skip
    for start, level in zip((0, SIZES[0]), vectors, strict=True):
        part = np.asarray(table)[start : start + len(level)]
        apart, expected = part[0] - part[1:], level[0] - level[1:]
        scale = np.linalg.norm(level - level.mean(0), 2) / len(level) ** 0.5
        np.testing.assert_allclose(apart[:, :3], expected / scale, atol=8 * NOISE)
        assert np.abs(part[:, 3:]).max() < 5 * NOISE
