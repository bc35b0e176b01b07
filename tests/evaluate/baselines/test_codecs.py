"""Files of codecs at a size, against a search through all options."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from avq.evaluate.baselines.codecs import CODECS, nearest_file, nearest_files

HERE = [name for name, codec in CODECS.items() if codec.is_available()]


@pytest.fixture(scope="module")
def image():
    """64x64, smooth with some noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    smooth = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_file_is_the_nearest_in_size_of_all_options(image, name):
    codec, target = CODECS[name], 1300.0
    sizes = [len(codec.encode(image, options)) for options in codec.options]
    file = nearest_file(codec, image, target)
    assert abs(len(file.content) - target) == min(abs(size - target) for size in sizes)
    assert not file.above


@pytest.mark.parametrize("name", HERE)
def test_file_is_near_the_target_and_of_the_format(image, name):
    file = nearest_file(CODECS[name], image, 1300.0)
    assert len(file.content) == pytest.approx(1300, rel=0.1)
    decoded = CODECS[name].decode(file.content)
    with Image.open(io.BytesIO(file.content)) as opened:
        assert opened.format == CODECS[name].format
        np.testing.assert_array_equal(decoded, np.asarray(opened.convert("RGB")))
    assert np.abs(decoded - image.astype(float)).mean() < 16


@pytest.mark.parametrize("name", HERE)
def test_codec_that_cannot_go_so_low_gives_its_smallest_file(image, name):
    file = nearest_file(CODECS[name], image, 10.0)
    assert file.above
    assert len(file.content) <= len(CODECS[name].encode(image, CODECS[name].options[0]))


def test_target_above_all_files_gives_the_largest(image):
    file = nearest_file(CODECS["jpeg"], image, 1e9)
    assert not file.above
    assert file.content == CODECS["jpeg"].encode(image, CODECS["jpeg"].options[-1])


def test_every_image_is_encoded_by_itself_in_order(image):
    images = [image, image[::-1].copy(), 255 - image]
    files = list(nearest_files(CODECS["webp"], images, 900.0))
    assert files == [nearest_file(CODECS["webp"], one, 900.0) for one in images]


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", HERE)
def test_other_channels_are_encoded_where_the_codec_has_them(image, name, channels):
    codec = CODECS[name]
    assert (channels in codec.channels) == (name != "jpeg" or channels == 1)
    if channels in codec.channels:
        pixels = image[..., [0, 0, 0, 1]] | 1 if channels == 4 else image[..., :1]
        made = codec.decode(codec.encode(pixels, codec.options[-1]), channels)
        assert made.shape == (64, 64, channels)
        assert np.abs(made.astype(float) - pixels).mean() < 2


@pytest.mark.parametrize("size", [11, 16])
@pytest.mark.parametrize("name", HERE)
def test_smallest_images_are_encoded(image, name, size):
    square = image[:size, :size].copy()
    file = nearest_file(CODECS[name], square, 1e9)
    assert CODECS[name].decode(file.content).shape == (size, size, 3)


@pytest.mark.parametrize("side", [64, 256])
def test_jpeg2000_is_nearly_as_good_as_by_any_of_its_options(image, side):
    picture = np.asarray(Image.fromarray(image).resize((side, side)))
    grey = picture.mean(axis=-1, keepdims=True)  # colours that vary together, as a photograph's do
    picture = np.clip(0.3 * picture + 0.7 * grey, 0, 255).astype(np.uint8)
    codec, bits = CODECS["jpeg2000"], 0.6
    target = bits * side**2 / 8

    def error(options):
        others = replace(codec, options=[one | options for one in codec.options])
        others = replace(others, options_of_side=lambda side: {}) if options else codec
        pixels = codec.decode(nearest_file(others, picture, target).content)
        return np.mean((pixels.astype(float) - picture) ** 2)

    levels = range(2, 7)
    best = min(error({"mct": m, "num_resolutions": n}) for m in (0, 1) for n in levels)
    assert 10 * np.log10(error({}) / best) < 0.4
