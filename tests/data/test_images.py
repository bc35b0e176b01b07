"""From bytes to squares: what is decoded, what is refused, and which views are taken."""

import io
import itertools

import chex
import numpy as np
import pytest
from PIL import Image

from avq.data.images import (
    UnreadableImage,
    centre_square,
    decode,
    random_colours,
    random_flip,
    random_square,
)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


def encoded(image, file_format="png", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def places(h, w):
    """An image whose pixel at row r and column c is (r, c, 7)."""
    rows, columns = np.mgrid[:h, :w]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def test_rgb_file_is_decoded_to_its_pixels():
    pixels = noise(5, 7)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


def test_grayscale_file_has_three_equal_channels():
    gray = noise(5, 7)[..., 0]
    image = decode(encoded(Image.fromarray(gray)))
    np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, axis=-1))


def test_palette_file_is_decoded_to_the_colours_of_its_palette():
    palette, indices = noise(1, 4)[0], np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decode(encoded(image)), palette[indices])


def test_alpha_channel_is_dropped():
    pixels = noise(5, 7)
    alpha = np.full((5, 7, 1), 255, np.uint8)
    image = Image.fromarray(np.concatenate([pixels, alpha], axis=-1))
    np.testing.assert_array_equal(decode(encoded(image)), pixels)


def test_cmyk_jpeg_becomes_rgb():
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    image = decode(encoded(cyan, "jpeg", quality=100))
    np.testing.assert_allclose(image.mean((0, 1)), [0, 255, 255], atol=3)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (6, lambda upright: np.rot90(upright, 1)),  # to be turned clockwise
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_exif_rotated_file_comes_out_upright(orientation, stored):
    upright = noise(5, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored(upright))), exif=exif)
    np.testing.assert_array_equal(decode(data), upright)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes: no known image format"),
        (b"these are words", "15 bytes: no known image format"),
        (encoded(Image.fromarray(noise(64, 64)))[:3000], "3000 bytes: .*truncated"),
        (encoded(Image.fromarray(noise(64, 64)), "jpeg")[:1000], "1000 bytes: .*truncated"),
    ],
    ids=["empty", "text", "truncated png", "truncated jpeg"],
)
def test_bytes_that_are_no_whole_image_are_unreadable_with_a_reason(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(data)


@pytest.mark.parametrize("limit", [20, 60], ids=["Pillow would raise", "Pillow would only warn"])
def test_decompression_bomb_is_refused(monkeypatch, limit):
    data = encoded(Image.fromarray(noise(8, 8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match=r"64 pixels\) exceeds limit"):
        decode(data)


@pytest.mark.parametrize(
    ("shape", "box"),
    [((12, 21), (4, 0, 16, 12)), ((21, 12), (0, 4, 12, 16)), ((12, 12), (0, 0, 12, 12))],
    ids=["wide", "tall", "square"],
)
@pytest.mark.parametrize("size", [5, 12, 16])
def test_centre_square_is_the_crop_and_resize_of_pillow(shape, box, size):
    pixels = noise(*shape)
    expected = Image.fromarray(pixels).crop(box).resize((size, size), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(centre_square(pixels, size), np.asarray(expected))


def test_image_of_the_exact_size_is_left_as_it_is():
    pixels = noise(9, 9)
    np.testing.assert_array_equal(centre_square(pixels, 9), pixels)


@pytest.mark.parametrize("shape", [(40, 30), (9, 30), (5, 3), (8, 8)])
def test_random_square_has_the_size_asked_for_and_only_depends_on_the_seed(shape):
    image = noise(*shape)
    views = [random_square(image, 8, np.random.default_rng(s)) for s in range(10)]
    again = [random_square(image, 8, np.random.default_rng(s)) for s in range(10)]
    chex.assert_shape(views, (8, 8, 3))
    chex.assert_trees_all_equal(views, again)


def test_random_squares_lie_inside_the_image_at_all_places():
    image = places(10, 13)
    corners = set()
    for seed in range(300):
        view = random_square(image, 9, np.random.default_rng(seed))
        if view[..., 2].min() == 7 and np.ptp(view[:, 0, 0]) == 8:  # a crop that was not resized
            top, left = view[0, 0, :2]
            np.testing.assert_array_equal(view, image[top : top + 9, left : left + 9])
            corners.add((int(top), int(left)))
    assert corners == {(top, left) for top in range(2) for left in range(5)}


def test_random_squares_zoom_out_up_to_four_times():
    image = places(200, 200)
    spans = [
        np.ptp(random_square(image, 20, np.random.default_rng(seed))[:, 0, 0]) / 19
        for seed in range(300)
    ]
    assert min(spans) < 1.1
    assert 3.5 < max(spans) < 4.2
    assert 1.7 < np.median(spans) < 2.3  # log-uniform: half of them on either side of 2


def test_random_colours_permute_dim_or_invert_half_of_the_time():
    image = noise(4, 5).astype(np.float64)
    orders, gains, untouched, inverted = set(), [], 0, 0
    for seed in range(200):
        view = random_colours(image.astype(np.uint8), np.random.default_rng(seed))
        untouched += np.array_equal(view, image)
        for candidate in (view.astype(np.float64), 255.0 - view):
            # The gain that fits best, of every channel of the view to every channel of the image.
            fits = np.einsum("hwc,hwi->ci", candidate, image) / np.sum(image**2, axis=(0, 1))
            misfit = np.abs(candidate[..., :, None] - fits * image[..., None, :])
            errors = misfit.max(axis=(0, 1))
            if errors.min(axis=1).max() <= 1:
                break
        else:
            pytest.fail(f"seed {seed}: no channels of the image, dimmed or inverted")
        inverted += not np.array_equal(candidate, view)
        order = errors.argmin(axis=1)
        orders.add(tuple(order.tolist()))
        gains.append(fits[range(3), order])
    assert 70 < untouched < 130
    assert 30 < inverted < 70
    assert orders == set(itertools.permutations(range(3)))
    np.testing.assert_allclose(np.max(gains, axis=1), 1.0, atol=0.01)
    assert 0.49 < np.min(gains) < 0.55


def test_random_flip_gives_the_image_or_its_mirror_image_equally_often():
    image = noise(4, 5)
    mirror = np.asarray(Image.fromarray(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    views = [random_flip(image, np.random.default_rng(seed)) for seed in range(200)]
    mirrored = [np.array_equal(view, mirror) for view in views]
    same = [np.array_equal(view, image) for view in views]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130
