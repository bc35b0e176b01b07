"""Anomaly maps: bits of codes, errors, and what both are measured in."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from avq.apply.prior import load_prior
from avq.apply.restore.anomaly import Anomalies, usual_images
from avq.errors import InputError
from avq.models.prior import MaskedPrior


@pytest.fixture(scope="module")
def anomalies(tokenizer):
    return Anomalies(tokenizer, usual_images(tokenizer))


def test_usual_images_are_squares_of_the_training_set(tokenizer, squares, image_folder):
    shown = np.stack(list(usual_images(tokenizer)))
    np.testing.assert_array_equal(shown, squares(image_folder / "train"))


def test_bits_are_those_of_the_frequencies_of_codes(anomalies, tokenizer, squares, image_folder):
    codes = tokenizer.encode(squares(image_folder / "train"))
    for bits, grids, size in zip(anomalies.bits, codes, tokenizer.codebook_sizes, strict=True):
        counts = np.array([np.sum(grids == code) for code in range(size)]) + 1
        np.testing.assert_allclose(bits, np.log2(counts.sum() / counts))


def test_usual_maps_have_mean_0_and_spread_1(anomalies, tokenizer):
    maps = list(anomalies.maps(usual_images(tokenizer)))
    for name in ("error", "rarity"):
        values = np.stack([getattr(each, name) for each in maps])
        assert values.mean() == pytest.approx(0, abs=1e-6)
        assert values.std() == pytest.approx(1, abs=1e-6)


def test_maps_are_those_written_out_and_have_the_size_of_the_image(anomalies, tokenizer):
    image = np.random.default_rng(0).integers(0, 256, (19, 26, 3), np.uint8)
    (maps,) = anomalies.maps([image])
    (codes,) = tokenizer.encode_each([image])
    bits = np.zeros((19, 26))
    for y, x in np.ndindex(19, 26):
        for table, grid, cell in zip(anomalies.bits, codes, tokenizer.cells, strict=True):
            bits[y, x] += table[grid[y // cell, x // cell]]
    squared = (image - tokenizer.reconstruct(image)[0].astype(float)) ** 2
    width = tokenizer.cells[-1]
    for ours, theirs in (
        (maps.error, np.log(1 + gaussian_filter(squared.mean(-1), width))),
        (maps.rarity, gaussian_filter(bits, width)),
    ):
        assert ours.shape == (19, 26)
        # But for the shift and the scale of usual images.
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(maps.both, (maps.error + maps.rarity) / 2)
    assert maps.scores()["both"] == maps.both.max()


def test_square_of_noise_stands_out(anomalies, tokenizer):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = np.full((64, 64, 3), 128, np.uint8)
    image[40:56, 8:24] = noise
    (maps,) = anomalies.maps([image])
    assert maps.error[40:56, 8:24].mean() > maps.error[:32].mean() + 1
    y, x = np.unravel_index(np.argmax(maps.error), (64, 64))
    assert 36 <= y < 60
    assert 4 <= x < 28


def test_no_usual_images_are_refused(tokenizer):
    with pytest.raises(InputError, match="no images that show what is usual"):
        Anomalies(tokenizer, [])


@pytest.fixture(scope="module")
def prior(prior_run):
    return load_prior(prior_run)


def test_surprisal_is_the_likelihood_of_a_prior_by_place(prior, tokenizer, squares, image_folder):
    images = squares(image_folder)
    anomalies = Anomalies(tokenizer, images, prior)
    (bits,) = prior.bits(tokenizer.encode(images))
    (cell,) = tokenizer.cells
    expected = np.stack(
        [gaussian_filter(level.repeat(cell, 0).repeat(cell, 1), cell) for level in bits]
    )
    expected = (expected - expected.mean()) / expected.std()
    maps = list(anomalies.maps(images))
    assert len(maps) == 20  # more than are computed at a time
    values: list[Any] = [each.surprisal for each in maps]
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert maps[0].scores().keys() == {"error", "rarity", "both", "surprisal"}
    without = next(Anomalies(tokenizer, images).maps(images))
    np.testing.assert_array_equal(maps[0].both, (maps[0].error + values[0]) / 2)
    np.testing.assert_array_equal(maps[0].rarity, without.rarity)
    assert without.surprisal is None


def test_prior_takes_images_of_its_own_size_and_must_be_exact(
    prior, tokenizer, squares, image_folder
):
    anomalies = Anomalies(tokenizer, squares(image_folder / "train"), prior)
    with pytest.raises(InputError, match="models images of 16x16 pixels, and one has 18x16"):
        list(anomalies.maps([np.zeros((16, 18, 3), np.uint8)]))
    masked = replace(prior, module=MaskedPrior(prior.module.grids, prior.module.codebook_sizes))
    with pytest.raises(InputError, match="a masked prior does not say"):
        Anomalies(tokenizer, [], masked)
