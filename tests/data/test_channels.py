"""Grey, RGB and RGB with alpha: the one rule between them, of Pillow's images and of arrays."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avq.data.channels import displayed, from_pil, to_pil
from avq.data.dataset import ImageSet
from avq.data.images import decode, encode
from avq.data.views import centre_square, random_colours, random_flip, rescaled, with_noise
from avq.pixels import as_channels, to_float, to_uint8


def noise(h, w, c, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, c)).astype(np.uint8)


def png(pixels):
    file = io.BytesIO()
    to_pil(pixels).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_become_an_image_and_come_back(channels):
    pixels = np.maximum(noise(5, 7, channels), 1)
    np.testing.assert_array_equal(from_pil(to_pil(pixels), channels), pixels)
    np.testing.assert_array_equal(decode(png(pixels), channels=channels), pixels)


def test_grey_is_the_same_by_the_grey_path_and_by_the_rgb_path():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    rgb = decode(png(grey))
    np.testing.assert_array_equal(rgb, np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(decode(png(rgb), channels=1), grey)
    np.testing.assert_array_equal(as_channels(rgb, 1), grey)


def test_colours_become_the_luma_of_bt_601():
    pixels = noise(40, 50, 3)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    for grey in (decode(png(pixels), channels=1), as_channels(pixels, 1)):
        assert grey.shape == (40, 50, 1)
        assert np.abs(grey[..., 0] - luma).max() < 0.51


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_parts_show_white(channels):
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(*[levels[:, None]] * 3, levels), axis=-1)  # all pairs
    value, alpha = levels[:, None].astype(float), levels / 255
    expected = np.round(value * alpha + 255 * (1 - alpha))[..., None].repeat(channels, -1)
    np.testing.assert_array_equal(from_pil(to_pil(pixels), channels), expected)
    np.testing.assert_array_equal(as_channels(pixels, channels), expected)


def test_what_has_no_alpha_is_opaque_and_hidden_colours_are_black():
    rgb = noise(3, 4, 3)
    opaque = np.concatenate([rgb, np.full((3, 4, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(decode(png(rgb), channels=4), opaque)
    np.testing.assert_array_equal(as_channels(rgb, 4), opaque)
    np.testing.assert_array_equal(as_channels(rgb[..., :1], 4)[..., :3], rgb[..., :1].repeat(3, -1))
    hidden = opaque.copy()
    hidden[0, :, 3] = 0
    read = decode(png(hidden), channels=4)
    assert not read[0].any()
    np.testing.assert_array_equal(read[1:], opaque[1:])


def test_arrays_of_jax_become_others_as_those_of_numpy_and_have_gradients():
    images = to_float(noise(4, 5, 4))[None]
    for channels in (1, 3):
        made = as_channels(jnp.asarray(images), channels)
        np.testing.assert_allclose(made, as_channels(images, channels), atol=1e-6)
    gradient = jax.grad(lambda x: as_channels(x, 3).sum())(jnp.asarray(images))
    share = (images[..., 3:] + 1) / 2
    np.testing.assert_allclose(gradient[..., :3], np.repeat(share, 3, -1), rtol=1e-6)
    np.testing.assert_allclose(gradient[..., 3], (images[..., :3] - 1).sum(-1) / 2, atol=1e-5)


def test_batch_of_bytes_is_rounded_as_its_floats():
    batch = noise(6, 5, 4).reshape(2, 3, 5, 4)
    np.testing.assert_array_equal(as_channels(batch, 3), to_uint8(as_channels(to_float(batch), 3)))


@pytest.mark.parametrize(("channels", "white"), [(1, 65535), (1, 4095), (4, 65535)])
def test_sixteen_bits_are_scaled_to_their_range(channels, white):
    values = np.array([[0, 257, 1000], [2048, 4095, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "tiff")
    read = decode(file.getvalue(), 0 if white == 65535 else white, channels)
    expected = np.round(np.minimum(values, white) * 255.0 / white)
    np.testing.assert_array_equal(read[..., 0], expected)
    if channels == 4:
        assert (read[..., 3] == 255).all()


def test_transparent_value_of_sixteen_bits_is_alpha():
    file = io.BytesIO()
    values = np.array([[1000, 257]], np.uint16)
    Image.fromarray(values).save(file, "png", transparency=1000)
    assert decode(file.getvalue(), channels=4).tolist() == [[[0, 0, 0, 0], [1, 1, 1, 255]]]
    assert decode(file.getvalue(), channels=1).tolist() == [[[255], [1]]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_record_is_lossless_and_keeps_any_name(channels):
    pixels = np.maximum(noise(4, 6, channels), 1)
    record = encode(pixels, "folder/a b \udce9.png")
    assert b"folder/a b \\udce9.png" in record
    np.testing.assert_array_equal(decode(record, channels=channels), pixels)


def test_alpha_is_shown_over_chequers_and_grey_as_grey():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8, :, 3] = [255]
    shown = displayed(pixels)
    assert shown.shape == (16, 16, 3)
    assert not shown[:8].any()
    assert {int(v) for v in shown[8:, :8].ravel()} == {204}
    assert {int(v) for v in shown[8:, 8:].ravel()} == {255}
    grey = noise(3, 4, 1)
    np.testing.assert_array_equal(displayed(grey), grey.repeat(3, -1))


@pytest.mark.parametrize("view", [centre_square, lambda image, size: rescaled(image, size, size)])
def test_resizing_weighs_colours_by_their_alpha(view):
    red, hidden_green = [200, 0, 0, 255], [0, 200, 0, 0]
    image = np.tile(np.array([red, hidden_green], np.uint8), (8, 4, 1))
    small = view(image, 4)
    assert small.shape == (4, 4, 4)
    assert not small[..., 1].any()
    assert (small[..., 0] >= 197).all()  # premultiplied values are rounded
    assert (abs(small[1:-1, 1:-1, 3].astype(int) - 127) < 20).all()


def test_colour_views_leave_alpha_and_make_grey_a_negative():
    rgb, alpha, grey = noise(6, 5, 3), noise(6, 5, 1, seed=1), noise(6, 5, 1, seed=2)
    four = np.concatenate([rgb, alpha], axis=-1)
    negatives = 0
    for seed in range(20):
        rng = np.random.default_rng
        made = random_colours(four, rng(seed))
        np.testing.assert_array_equal(made[..., :3], random_colours(rgb, rng(seed)))
        np.testing.assert_array_equal(made[..., 3:], alpha)
        changed = random_colours(grey, rng(seed))
        negatives += np.array_equal(changed, 255 - grey)
        assert np.array_equal(changed, grey) or np.array_equal(changed, 255 - grey)
    assert 0 < negatives < 20
    noisy = with_noise(four, 25.0, np.random.default_rng(0))
    np.testing.assert_array_equal(noisy[..., 3:], alpha)
    assert (noisy[..., :3] != rgb).mean() > 0.9
    flipped = next(
        f for s in range(9) if (f := random_flip(four, np.random.default_rng(s))) is not four
    )
    np.testing.assert_array_equal(flipped, four[:, ::-1])


class Colours:
    """A source that knows RGB alone."""

    augment = False

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return noise(4, 5, 3)

    def name(self, index):
        return "colours"


def test_set_turns_what_a_source_gives_into_its_channels():
    grey = ImageSet(Colours(), channels=1)[0]
    np.testing.assert_array_equal(grey, from_pil(to_pil(noise(4, 5, 3)), 1))
