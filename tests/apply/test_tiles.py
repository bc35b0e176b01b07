"""Tiles of images of any size, and what is made of them again."""

import numpy as np
import pytest

from avq.apply.tiles import Axis, reflected, tiling


@pytest.mark.parametrize(
    ("tile", "stride"), [(16, 8), (24, 8), (64, 8), (64, 1), (256, 16), (8, 8)]
)
def test_tiles_cover_a_side_and_their_weights_add_up_to_1(tile, stride):
    for length in range(tile, 6 * tile, stride):
        axis = Axis(length, tile, stride)
        total, answered = np.zeros(length), np.zeros(length, int)
        for index, start in enumerate(axis.starts):
            assert start % stride == 0
            total[start : start + tile] += axis.weights(index)
            own, outer = axis.part(index, 1)
            assert (own.start + start, own.stop + start) == (outer.start, outer.stop)
            assert 0 <= own.start < own.stop <= tile
            answered[outer] += 1
        np.testing.assert_allclose(total, 1, atol=1e-6, err_msg=str(axis))
        np.testing.assert_array_equal(answered, 1)
        overlaps = tile - np.diff(axis.starts)
        assert np.all(overlaps >= axis.overlap)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 70), (200, 333), (40, 500), (1, 1)])
def test_cut_and_joined_again_an_image_and_its_grids_are_the_same(height, width):
    rng = np.random.default_rng(0)
    tiles = tiling(height, width, side=64, stride=8)
    image = rng.normal(size=(height, width, 3)).astype(np.float32)
    whole = reflected(image, *tiles.shape)
    cut = [whole[box] for box in tiles.boxes]
    np.testing.assert_allclose(tiles.blended(iter(cut)), whole, atol=1e-5)
    for stride in (4, 8):
        grids = [tile[::stride, ::stride, 0] for tile in cut]
        np.testing.assert_array_equal(tiles.joined(grids, stride), whole[::stride, ::stride, 0])


def test_image_is_continued_by_its_reflection():
    values = np.arange(6).reshape(2, 3)
    expected = [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2], [0, 1, 2, 2]]
    np.testing.assert_array_equal(reflected(values, 5, 4), expected)
    np.testing.assert_array_equal(reflected(np.ones((1, 1, 3)), 4, 4), np.ones((4, 4, 3)))
