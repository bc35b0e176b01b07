"""Files of codecs at a size, against a search through all options."""

import io

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


@pytest.mark.parametrize("size", [11, 16])
@pytest.mark.parametrize("name", HERE)
def test_smallest_images_are_encoded(image, name, size):
    square = image[:size, :size].copy()
    file = nearest_file(CODECS[name], square, 1e9)
    assert CODECS[name].decode(file.content).shape == (size, size, 3)
