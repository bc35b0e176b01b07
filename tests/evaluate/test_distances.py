"""Frechet distance against SciPy's matrix root, kernel distance against loops over pairs."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from avq.errors import InputError
from avq.evaluate import distances as distances_module
from avq.evaluate.distances import Moments, frechet_distance, kernel_distances


def features(n, d, seed, shift=0.0):
    """Correlated features, not negative, as those of a network behind a ReLU."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(d, d)) / np.sqrt(d)
    spread = rng.uniform(0.5, 1.5, d)
    return np.maximum(rng.normal(0.3 + shift, spread, (n, d)) @ mixing, 0).astype(np.float32)


def by_matrix_root(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(s @ t)
    assert np.abs(root.imag).max() < 1e-6 * np.abs(root.real).max()
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * root.real)


def moments(x, parts=1):
    total = Moments.none(x.shape[1])
    for part in np.array_split(x, parts):
        total = total.merge(Moments.of(part))
    return total


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_frechet_distance_equals_that_by_the_matrix_root(parts):
    a, b = features(700, 96, 0), features(500, 96, 1, shift=0.2)
    actual = frechet_distance(moments(a, parts), moments(b, parts))
    np.testing.assert_allclose(actual, by_matrix_root(a, b), rtol=1e-6)


def test_moments_keep_their_digits_far_from_zero():
    a, b = features(300, 8, 0).astype(np.float64), features(300, 8, 1, 0.2).astype(np.float64)
    far = frechet_distance(moments(a + 1e6, 8), moments(b + 1e6, 3))
    np.testing.assert_allclose(far, by_matrix_root(a, b), rtol=1e-6)


def test_features_without_variance_add_their_means_alone():
    a, b = features(300, 8, 0), features(300, 8, 1)
    constant = np.zeros((300, 2), np.float32)
    padded = [moments(np.concatenate([x, constant + c], 1)) for x, c in ((a, 0), (b, 3))]
    np.testing.assert_allclose(frechet_distance(*padded), by_matrix_root(a, b) + 18, rtol=1e-6)


def test_frechet_distance_of_the_same_features_is_zero():
    same = moments(features(200, 64, 0))
    assert 0 <= frechet_distance(same, same) < 1e-9


def test_frechet_distance_of_fewer_images_than_features_is_refused():
    few, enough = moments(features(63, 64, 0)), moments(features(64, 64, 1))
    assert frechet_distance(enough, enough) < 1e-9
    for pair in ((few, enough), (enough, few)):
        with pytest.raises(InputError, match=r"over 64 features .* there are 63\."):
            frechet_distance(*pair)


def by_loops(x, y):
    """Mean over pairs of different vectors within each side, minus that across."""

    def kernel(a, b):
        return (np.dot(a.astype(np.float64), b) / len(a) + 1) ** 3

    n = len(x)
    within = [
        np.mean([kernel(side[i], side[j]) for i in range(n) for j in range(n) if i != j])
        for side in (x, y)
    ]
    return sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kernel_distance_of_few_images_equals_that_by_loops_over_all_pairs():
    x, y = features(30, 16, 0), features(30, 16, 1, shift=0.3)
    (actual,) = kernel_distances(x, y)
    np.testing.assert_allclose(actual, by_loops(x, y), rtol=1e-9)


def test_kernel_distance_of_many_images_is_of_a_hundred_random_subsets(monkeypatch):
    assert distances_module.SUBSET_SIZE == 1000
    monkeypatch.setattr(distances_module, "SUBSET_SIZE", 100)
    x, y = features(120, 4, 0), features(150, 4, 1, shift=0.3)
    distances = kernel_distances(x, y)
    assert distances.shape == (100,)
    assert len(np.unique(distances)) == 100
    gram = [(a.astype(np.float64) @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in gram[:2]]
    whole = sum(within) - 2 * gram[2].mean()
    error = distances.std() / np.sqrt(len(distances))
    np.testing.assert_allclose(distances.mean(), whole, atol=4 * error)
    np.testing.assert_array_equal(distances, kernel_distances(x, y))


def test_kernel_distance_of_one_image_is_refused():
    with pytest.raises(InputError, match="at least two images"):
        kernel_distances(np.ones((1, 4)), np.ones((5, 4)))
