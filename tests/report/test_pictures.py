"""Pictures of a report, pixel by pixel."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from avq.data.channels import displayed
from avq.report.pictures import (
    FRAME,
    attention_picture,
    code_colours,
    code_map,
    data_uri,
    error_map,
)


def noise(side):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (4, 16), (4, 160)])
def test_pictures_of_other_channels_are_shown_as_rgb(channels, side):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, channels)).astype(np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(data_uri(pixels).partition(",")[2]))) as image:
        assert (image.mode, image.size) == ("RGB", (side, side))
        if side <= 128:
            np.testing.assert_array_equal(np.asarray(image), displayed(pixels))
    assert error_map(pixels, 255 - pixels).shape == (side, side, 3)
    assert attention_picture(pixels, np.ones((4, 4)), (0.5, 0.5)).shape[-1] == 3


@pytest.mark.parametrize(("side", "kind", "largest"), [(128, "png", 0), (160, "jpeg", 255)])
def test_small_pictures_are_kept_to_the_bit(side, kind, largest):
    pixels = noise(side)
    head, _, data = data_uri(pixels).partition(",")
    assert head == f"data:image/{kind};base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        difference = np.abs(np.asarray(image).astype(int) - pixels)
    assert difference.max() <= largest


def test_error_is_black_where_there_is_none_and_brighter_where_it_is_larger():
    image = np.zeros((1, 4, 3), np.uint8)
    made = np.array([0, 20, 64, 255], np.uint8)[None, :, None].repeat(3, -1)
    light = error_map(image, made).astype(int).sum(-1)[0]
    assert light[0] < 10
    assert light[0] < light[1] < light[2] == light[3]


def test_every_code_has_a_colour_of_its_own():
    colours = code_colours(1024)
    assert len(np.unique(colours, axis=0)) > 1000
    np.testing.assert_array_equal(code_colours(16), colours[:16])
    grid = np.array([[3, 0], [3, 1]])
    np.testing.assert_array_equal(code_map(grid, 16)[0, 0], colours[3])
    np.testing.assert_array_equal(code_map(grid, 16)[1, 1], colours[1])


@pytest.mark.parametrize(("side", "grid", "size"), [(16, 4, 256), (64, 8, 256), (320, 40, 320)])
def test_attention_is_brightest_at_the_largest_weight_and_frames_the_pixel(side, grid, size):
    weights = np.zeros((grid, grid), np.float32)
    weights[0, -1] = 0.25
    picture = attention_picture(noise(side) // 4, weights, (0.75, 0.5))
    assert picture.shape == (size, size, 3)
    cell = size // grid
    cells = picture.reshape(grid, cell, grid, cell, 3).mean((1, 3, 4))
    framed = int(0.75 * grid), grid // 2
    assert tuple(picture[framed[0] * cell, framed[1] * cell]) == FRAME
    cells[framed] = 0
    assert np.argwhere(cells == np.max(cells)).tolist() == [[0, grid - 1]]
