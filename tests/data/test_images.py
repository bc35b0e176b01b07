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
    encode,
    random_colours,
    random_crop,
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


def test_transparent_parts_are_white_and_others_as_they_are():
    pixels = noise(5, 7)
    alpha = np.zeros((5, 7, 1), np.uint8)
    alpha[:, :3] = 255
    image = Image.fromarray(np.concatenate([pixels, alpha], axis=-1))
    expected = np.where(alpha, pixels, 255)
    np.testing.assert_array_equal(decode(encoded(image)), expected)


def test_transparent_colour_of_a_palette_is_white():
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [255] * 3], [[255] * 3, [70, 80, 90]]]
    np.testing.assert_array_equal(decode(encoded(image, transparency=1)), expected)


@pytest.mark.parametrize("file_format", ["png", "tiff"])
def test_sixteen_bits_become_eight_and_are_not_clipped(file_format):
    gray = np.array([[0, 1000, 32896], [65535, 257, 40000]], np.uint16)
    decoded = decode(encoded(Image.fromarray(gray), file_format))
    np.testing.assert_array_equal(decoded, np.round(gray / 257)[..., None].repeat(3, axis=-1))


def test_of_an_animation_the_first_picture_is_taken():
    first, second = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")
    data = encoded(first, "gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(data), np.asarray(first))


def test_damaged_exif_does_not_cost_the_picture():
    pixels = noise(5, 7)
    data = encoded(Image.fromarray(pixels), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(data), pixels)


@pytest.mark.parametrize("name", ["a/b.jpg", "two\nlines\x00", "\u00e9\u6f22 #1", "x" * 5000, ""])
@pytest.mark.parametrize("shape", [(5, 7), (1, 1)])
def test_encoded_image_is_decoded_to_the_same_pixels(name, shape):
    pixels = noise(*shape)
    np.testing.assert_array_equal(decode(encode(pixels, name)), pixels)


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


def test_pixels_of_no_known_range_are_refused():
    with pytest.raises(UnreadableImage, match="floating-point"):
        decode(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "tiff"))
    with pytest.raises(UnreadableImage, match="more than 16 bits"):
        decode(encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "tiff"))


def test_formats_that_start_other_programs_are_not_tried():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    with Image.open(io.BytesIO(postscript)) as image:
        assert image.format == "EPS"
    with pytest.raises(UnreadableImage, match="no known image format"):
        decode(postscript)


@pytest.mark.parametrize("side", [30_000, 9_500], ids=["Pillow would raise", "Pillow would warn"])
def test_decompression_bomb_is_refused(side):
    bomb = encoded(Image.new("1", (side, side)))
    assert len(bomb) < 1 << 18
    with pytest.raises(UnreadableImage, match=r"exceeds limit|too many"):
        decode(bomb)


def test_limit_of_pixels_does_not_depend_on_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImage, match="9500x9500 pixels are too many"):
        decode(encoded(Image.new("1", (9500, 9500))))


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


def test_random_crops_lie_anywhere_and_are_no_smaller_than_asked():
    image = places(100, 140)
    corners, sides = [], []
    for seed in range(300):
        view = random_crop(image, 10, np.random.default_rng(seed), smallest=0.5)
        chex.assert_shape(view, (10, 10, 3))
        top, left = view[0, 0, :2].astype(int)
        sides.append((int(view[-1, 0, 0]) - top) * 10 / 9)
        corners.append((top, left))
    assert 46 < min(sides) < 55
    assert 92 < max(sides) < 103
    assert np.min(corners) < 8
    assert np.max(corners, axis=0)[1] > 75


def test_smallest_crop_of_one_moves_along_the_longer_side_alone():
    views = [
        random_crop(places(10, 13), 10, np.random.default_rng(s), smallest=1.0) for s in range(40)
    ]
    assert {int(view[0, 0, 0]) for view in views} == {0}
    assert {int(view[0, 0, 1]) for view in views} == {0, 1, 2, 3}


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
