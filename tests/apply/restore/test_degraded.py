"""Removing noise and enlarging, by a model as if it had been trained for it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import avq
from avq.apply.restore.denoise import denoise
from avq.apply.restore.upscale import back_projected, upscale
from avq.errors import InputError

SIZES = ((16, 16), (9, 21))


@pytest.fixture(scope="module")
def trained_for(tokenizer):
    """Makes a tokenizer of a run of such data settings."""

    def make(**settings):
        config = tokenizer.trained.config
        changed = {**config, "data": {**config["data"], **settings}}
        return avq.Tokenizer(replace(tokenizer.trained, config=changed))

    return make


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def test_denoised_images_are_the_reconstructed_ones(tokenizer, trained_for, pictures):
    denoised = list(denoise(trained_for(noise=25.0), pictures))
    expected = [tokenizer.reconstruct(picture)[0] for picture in pictures]
    for ours, theirs in zip(denoised, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("factor", [2, 3])
def test_enlarged_images_have_the_factors_size_and_shrink_to_about_the_given_ones(
    trained_for, tokenizer, pictures, factor
):
    def lacking(large, small):
        again = Image.fromarray(large).resize((8, 6), Image.Resampling.BICUBIC)
        return np.abs(np.asarray(again).astype(float) - small).mean()

    smooth = [np.asarray(Image.fromarray(p).resize((8, 6), Image.Resampling.BOX)) for p in pictures]
    for small, large in zip(smooth, upscale(trained_for(downscale=factor), smooth), strict=True):
        assert large.shape == (6 * factor, 8 * factor, 3)
        enlarged = Image.fromarray(small).resize(large.shape[1::-1], Image.Resampling.BICUBIC)
        (alone,) = tokenizer.reconstruct(np.asarray(enlarged))
        assert lacking(large, small) < 0.25 * lacking(alone, small)


def test_back_projection_keeps_what_shrinks_to_nothing():
    checks = np.indices((16, 16)).sum(0)[..., None] % 2 * np.full(3, 40) + 100
    grey = np.full((8, 8, 3), 140, np.uint8)  # the checks' mean is 120
    result = back_projected(checks.astype(np.uint8), grey).astype(float)
    np.testing.assert_allclose(result[4:-4, 4:-4], (checks + 20)[4:-4, 4:-4], atol=1.5)


def test_noisy_images_are_enlarged_without_back_projection(tokenizer, trained_for, pictures):
    small = pictures[0][:8, :8]
    (large,) = upscale(trained_for(downscale=2, noise=5.0), [small])
    enlarged = np.asarray(Image.fromarray(small).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(large, tokenizer.reconstruct(enlarged)[0])


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (denoise, {}, r"not trained to remove noise alone \(its degradation: none\)"),
        (denoise, {"noise": 5.0, "downscale": 2}, r"noise alone \(its degradation: shrunk 2"),
        (upscale, {"noise": 5.0}, r"not trained on a lower resolution .*noise of 5 levels"),
    ],
)
def test_run_that_was_trained_without_is_refused(trained_for, function, settings, message):
    with pytest.raises(InputError, match=message):
        function(trained_for(**settings), [])
