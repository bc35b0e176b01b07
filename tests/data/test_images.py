"""Decoding: formats, modes, orientation, and refused files."""

import io

import numpy as np
import pytest
from PIL import Image

from avq.data.images import UnreadableImage, decode, encode


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


def encoded(image, file_format="png", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


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
