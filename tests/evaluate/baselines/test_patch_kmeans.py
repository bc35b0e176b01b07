"""Patch k-means against Lloyd's algorithm and nearest codes written out in NumPy."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.data.dataset import ImageSet
from avq.data.settings import Data
from avq.data.sources import open_source
from avq.data.views import centre_square
from avq.evaluate.baselines import patch_kmeans
from avq.evaluate.baselines.patch_kmeans import (
    PatchQuantizer,
    from_patches,
    kmeans,
    patch_codebooks,
    to_patches,
    training_views,
)
from avq.pixels import to_float

GRIDS, SIZES = (4, 2), (8, 6)  # of images of 16 pixels: patches of 4 and of 8


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def views(rng):
    return rng.integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)


def squared_distances(points, centres):
    return np.square(points[:, None].astype(np.float64) - centres).sum(-1)


def cut_out(image, side):
    """Patches of an image, row by row, flattened."""
    starts = range(0, len(image), side)
    return [image[i : i + side, j : j + side].ravel() for i, j in product(starts, starts)]


def test_patches_are_cut_out_row_by_row(views):
    patches = to_patches(views, 8)
    np.testing.assert_array_equal(patches, np.concatenate([cut_out(v, 8) for v in views]))
    np.testing.assert_array_equal(from_patches(patches, 16, 3), views)


def test_kmeans_is_lloyds_algorithm(rng):
    points = rng.normal(size=(300, 5)).astype(np.float32)
    start = kmeans(points, 8, np.random.default_rng(2), rounds=0)
    centres = start.astype(np.float64)
    for _ in range(10):
        codes = squared_distances(points, centres).argmin(1)
        assert len(set(codes)) == 8
        centres = np.stack([points[codes == k].mean(0, dtype=np.float64) for k in range(8)])
    actual = kmeans(points, 8, np.random.default_rng(2), rounds=10)
    np.testing.assert_allclose(actual, centres, atol=1e-5)


def test_kmeans_starts_at_different_points(rng):
    points = np.repeat(np.arange(5, dtype=np.float32), [100, 1, 1, 1, 1])[:, None]
    assert sorted(kmeans(points, 5, rng).ravel()) == [0, 1, 2, 3, 4]


def test_centre_without_points_moves_to_a_point(rng, monkeypatch):
    points = np.append(rng.normal(size=(50, 2)), [[100, 100]], axis=0).astype(np.float32)
    nowhere = np.array([[0, 0], [1e6, 1e6]], np.float32)
    monkeypatch.setattr(patch_kmeans, "_distinct", lambda *_: nowhere)
    distances = squared_distances(points, kmeans(points, 2, rng)).min(1)
    assert distances.sum() < squared_distances(points, points.mean(0)[None]).sum()


def test_more_codes_than_different_points_repeat_them(rng):
    points = np.array([[1.0], [2.0], [1.0]], np.float32)
    centres = kmeans(points, 7, rng)
    assert centres.shape == (7, 1)
    assert set(centres.ravel()) == {1, 2}


def test_quantiser_takes_the_nearest_patch_of_what_is_left(views):
    codebooks = patch_codebooks(views, GRIDS, SIZES)
    images = to_float(jnp.asarray(views))
    variables = {"codebooks": [jnp.asarray(book) for book in codebooks]}
    out = jax.jit(PatchQuantizer(GRIDS, SIZES).apply)(variables, images)
    left = np.array(images, np.float64)
    for level in (1, 0):  # the coarse one first
        side = 16 // GRIDS[level]
        for image, grid in zip(left, np.asarray(out.levels[level].codes), strict=True):
            codes = squared_distances(np.array(cut_out(image, side)), codebooks[level]).argmin(1)
            np.testing.assert_array_equal(grid.ravel(), codes)
            for (i, j), code in np.ndenumerate(grid):
                place = np.s_[i * side : (i + 1) * side, j * side : (j + 1) * side]
                image[place] -= codebooks[level][code].reshape(side, side, 3)
    np.testing.assert_allclose(images - out.images, left, atol=1e-5)


def test_second_level_is_fitted_to_what_the_first_leaves(views):
    fine, coarse = patch_codebooks(views, GRIDS, SIZES)
    patches = to_patches(views / 127.5 - 1, 8)
    left = patches - coarse[squared_distances(patches, coarse).argmin(1)]
    parts = to_patches(left.reshape(-1, 8, 8, 3), 4)
    codes = squared_distances(parts, fine).argmin(1)
    means = np.stack([parts[codes == k].mean(0) for k in range(8)])
    np.testing.assert_allclose(fine, means, atol=0.02)  # Lloyd's fixed point, but for rounds


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_as_many_patches_as_codes_are_reproduced(rng, channels):
    patches = rng.integers(0, 256, (8, 4 * 4 * channels)).astype(np.uint8)
    views = from_patches(patches[rng.integers(8, size=20 * 16)], 16, channels)
    codebooks = [jnp.asarray(book) for book in patch_codebooks(views, (4,), (8,))]
    images = to_float(jnp.asarray(views))
    out = jax.jit(PatchQuantizer((4,), (8,)).apply)({"codebooks": codebooks}, images)
    np.testing.assert_allclose(out.images, images, atol=1e-6)


def test_codebooks_are_the_same_at_every_call(views, monkeypatch):
    monkeypatch.setattr(patch_kmeans, "PATCHES", 20)  # of 48 and of 80
    for first, second in zip(*(patch_codebooks(views, GRIDS, SIZES) for _ in "ab"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_sample_of_patches_is_bounded(views, monkeypatch):
    seen = []

    def first_points(points, k, rng):
        seen.append(points.shape)
        return points[:k]

    monkeypatch.setattr(patch_kmeans, "VALUES", 10 * 8 * 8 * 3)
    monkeypatch.setattr(patch_kmeans, "kmeans", first_points)
    patch_codebooks(views, GRIDS, SIZES)
    assert seen == [(10, 192), (40, 48)]


def test_bits_are_those_of_the_codes():
    quantizer = PatchQuantizer((16, 8), (256, 256))
    assert quantizer.bits_per_pixel(64) == 8 * (256 + 64) / 64**2 == 0.625
    assert quantizer.codebook_sizes() == (256, 256)
    assert quantizer.decoded_levels() == 2


def test_views_are_those_of_training(image_folder, monkeypatch):
    images = ImageSet(open_source(str(image_folder / "train")))
    data = Data(path=str(image_folder), image_size=16, batch_size=8)
    monkeypatch.setattr(patch_kmeans, "VIEWS", 40)
    views = training_views(images, data)
    squares = [centre_square(images.nearest(row), 16) for row in range(16)]
    known = {view.tobytes() for square in squares for view in (square, square[:, ::-1])}
    assert len(views) == 40
    assert {view.tobytes() for view in views} <= known
    assert len({view.tobytes() for view in views}) > 16  # some are mirrored
    assert {view.tobytes() for view in views[:16]}.isdisjoint(
        {view[:, ::-1].tobytes() for view in views[:16]}
    )  # an image comes once an epoch
    monkeypatch.setattr(patch_kmeans, "VIEW_BYTES", 5 * 16 * 16 * 3)
    np.testing.assert_array_equal(training_views(images, data), views[:5])
