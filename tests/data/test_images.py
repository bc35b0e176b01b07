"""Decoding: formats, modes, orientation, and refused files."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from avq.data.images import UnreadableImage, decode, encode, used_range


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


def chunk(name, data):
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def sixteen_bit_png(values, *chunks):
    """A PNG file of 16-bit values `[h, w, c]`, with more chunks before its pixels."""
    h, w, c = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[c]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def sixteen_bits(channels):
    """Values of which the first are the hard ones to round, opaque where there is an alpha."""
    values = np.random.default_rng(0).integers(0, 65536, (4, 5, channels)).astype(np.uint16)
    values[0] = np.array([255, 128, 129, 65407, 65535])[:, None]
    if channels in (2, 4):
        values[..., -1] = 65535
    return values


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_and_coloured_sixteen_bits_are_rounded_alike(channels):
    values = sixteen_bits(channels)
    colours = values[..., : 3 if channels > 2 else 1]
    expected = np.broadcast_to(np.round(colours / 257), (4, 5, 3))
    np.testing.assert_array_equal(decode(sixteen_bit_png(values)), expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_coloured_sixteen_bit_tiff_is_rounded_too(byteorder, compression):
    values, file = sixteen_bits(3), io.BytesIO()
    options = {"byteorder": byteorder, "compression": compression}
    tifffile.imwrite(file, values, photometric="rgb", **options)
    np.testing.assert_array_equal(decode(file.getvalue()), np.round(values / 257))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_value_of_sixteen_bits_is_white(channels):
    values = sixteen_bits(channels)
    values[1, 2] = (1000, 2000, 3000)[:channels]
    tag = chunk(b"tRNS", values[1, 2].astype(">u2").tobytes())
    image = decode(sixteen_bit_png(values, tag))
    expected = np.broadcast_to(np.round(values / 257), (4, 5, 3)).copy()
    expected[1, 2] = 255
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_white_level_is_white(channels):
    values = np.full((2, 2, channels), 65535, np.uint16)
    values[..., : min(channels, 3)] = np.array([[0, 1000], [4095, 5000]])[..., None]
    image = decode(sixteen_bit_png(values), white_level=4095)
    np.testing.assert_array_equal(image[..., 0], [[0, 62], [255, 255]])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_white_level_is_not_that_of_transparency():
    values = np.array([[[4095, 4095, 0, 65535 // 3]]], np.uint16)
    image = decode(sixteen_bit_png(values), white_level=4095)
    np.testing.assert_array_equal(image, [[[255, 255, 170]]])  # two thirds of white shine through


def test_white_level_of_wider_pixels_and_not_of_eight_bits():
    wide = encoded(Image.fromarray(np.array([[0, 1 << 19, 1 << 20]], np.int32)), "tiff")
    assert decode(wide, white_level=1 << 20)[0, :, 0].tolist() == [0, 128, 255]
    pixels = noise(5, 7)
    narrow = decode(encoded(Image.fromarray(pixels)), white_level=4095)
    np.testing.assert_array_equal(narrow, pixels)


def test_used_range_is_that_of_wide_images_alone():
    values = sixteen_bits(4)
    values[..., :3] = 4095
    assert used_range(sixteen_bit_png(values)) == 4095 / 65535
    assert used_range(encoded(Image.fromarray(values[..., 0]), "tiff")) == 4095 / 65535
    assert used_range(encoded(Image.fromarray(noise(5, 7)))) is None


def packed(kind, size):
    """A chunk of a PNG file that unpacks to so many bytes."""
    heads = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"Profile\0\0"}
    return chunk(kind, heads[kind] + zlib.compress(bytes(size)))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_long_comment_or_large_profile_does_not_cost_the_picture(kind):
    values = sixteen_bits(3)
    image = decode(sixteen_bit_png(values, packed(kind, 5 << 20)))
    np.testing.assert_array_equal(image, np.round(values / 257))


def test_unpacking_of_comments_is_bounded():
    comments = [packed(b"zTXt", 40 << 20)] * 2
    with pytest.raises(UnreadableImage, match="Too much memory used in text chunks"):
        decode(sixteen_bit_png(sixteen_bits(1), *comments))


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


# How the pixels of an upright picture lie in the file, by its EXIF orientation.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),  # to be turned clockwise
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("png", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("webp", {"lossless": True}),
        ("jpeg", {"quality": 100, "subsampling": 0}),
    ],
    ids=["png", "tiff", "tiff lzw", "webp", "jpeg"],
)
def test_turned_file_comes_out_upright(file_format, options, orientation):
    coarse = Image.fromarray(noise(2, 3))
    upright = np.asarray(coarse.resize((48, 32), Image.Resampling.NEAREST))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    image = decode(encoded(stored, file_format, exif=exif, **options))
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= (4 if file_format == "jpeg" else 0)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("mode", "kind"), [("I;16", np.uint16), ("I", np.int32)])
def test_turned_wide_tiff_comes_out_upright(mode, kind, orientation):
    upright = noise(5, 7)[..., 0].astype(kind) * 257
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    assert stored.mode == mode
    image = decode(encoded(stored, "tiff", exif=exif))
    np.testing.assert_array_equal(image, (upright // 257)[..., None].repeat(3, axis=-1))


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
