"""Dot patterns in flat areas, against patterns of known energy and Fourier transforms by numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq.evaluate.metrics.base import About
from avq.evaluate.metrics.dots import Dots, dots, flat_shares

Y, X = np.mgrid[:16, :16].astype(np.float32)


def block(pattern):
    return jnp.repeat(jnp.asarray(pattern, jnp.float32)[None, :, :, None], 3, axis=-1)


FLAT = block(0 * X)


@pytest.mark.parametrize(
    "pattern",
    [
        (-1) ** (X + Y),
        (-1) ** X,
        np.sqrt(2) * np.cos(np.pi / 2 * Y),
        2 * (X % 4 == 0) * (Y % 4 == 1),
    ],
)
def test_share_is_that_of_the_patterns_energy(pattern):
    pattern = pattern - pattern.mean()
    wave = np.sqrt(2) * np.cos(2 * np.pi * X / 8) * np.sign(np.cos(np.pi * Y / 8 + 0.1))
    share = dots(block(0.1 * pattern + 0.2 * wave - 0.3), FLAT)
    energy = 0.01 * pattern.var()
    # A plane takes a little from each, so that the share is not exact.
    assert share == pytest.approx(energy / (energy + 0.04), abs=0.02)


def test_share_is_the_energy_at_fifteen_frequencies():
    image = np.random.default_rng(0).normal(size=(16, 16, 3))
    energy = whole = 0.0
    for channel in np.moveaxis(image, -1, 0):
        design = np.stack([X.ravel(), Y.ravel(), np.ones(256)], axis=1)
        fit = design @ np.linalg.lstsq(design, channel.ravel(), rcond=None)[0]
        spectrum = np.abs(np.fft.fft2(channel - fit.reshape(16, 16))) ** 2
        energy += spectrum[::4, ::4].sum() - spectrum[0, 0]
        whole += spectrum.sum()
    share = dots(jnp.asarray(image, jnp.float32)[None], FLAT)
    assert share == pytest.approx(energy / whole, rel=1e-4)


def test_white_noise_has_the_share_of_its_frequencies():
    noise = np.random.default_rng(0).normal(size=(8, 64, 64, 3))
    images = jnp.asarray(noise, jnp.float32)
    assert dots(images, 0 * images) == pytest.approx(15 / 253, rel=0.03)


def test_planes_have_no_share():
    assert dots(block(0.01 * X - 0.02 * Y + 0.3), FLAT) == pytest.approx(0, abs=1e-4)


def test_only_blocks_where_the_target_is_flat_count():
    target = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3))
    target[:, 16:, :16] = 0.01 * (-1) ** X[:, :, None]
    image = target.copy()
    image[0, 16:, :16] = np.cos(np.pi * X / 4)[:, :, None]
    pair = jnp.asarray(image, jnp.float32), jnp.asarray(target, jnp.float32)
    shares = flat_shares(*pair)
    assert shares.n.tolist() == [1, 1]
    np.testing.assert_allclose(shares.total, [0, 1], atol=0.02)
    assert dots(*pair) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [12, 40])
def test_sizes_that_are_no_multiple_of_a_block_are_measured(size):
    y, x = np.mgrid[:size, :size]
    image = block((-1.0) ** (x + y))
    assert dots(image, 0 * image) == pytest.approx(1, abs=0.02)


def test_images_without_any_variance_have_no_dots():
    assert dots(FLAT, FLAT) == 0


def test_metric_is_the_mean_over_blocks_of_images_that_count():
    images = jnp.concatenate([block((-1) ** X), FLAT, block((-1) ** Y)])
    about = About(16, 1.0, 1.0, (2,), 1.0, 1)
    mask = jnp.array([True, True, False])
    sums = Dots().batch(images, jnp.concatenate([FLAT] * 3), (), mask, about)
    values = Dots().summary(sums, about)
    assert values == {"dots": pytest.approx(0.5, abs=0.01), "dots_of_inputs": 0}


def test_metric_of_images_without_flat_areas_has_no_value():
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 16, 3)), jnp.float32)
    about = About(16, 1.0, 1.0, (2,), 1.0, 1)
    assert Dots().summary(Dots().batch(noise, noise, (), jnp.array([True]), about), about) == {}
