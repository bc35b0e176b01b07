"""Views: places, scales, colours and mirror images, and which of them are combined."""

import itertools

import chex
import numpy as np
import pytest
from PIL import Image

from avq.data.views import (
    Degradation,
    SquareView,
    TrainingView,
    centre_square,
    random_colours,
    random_crop,
    random_flip,
    random_square,
    with_noise,
)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


def places(h, w):
    """An image whose pixel at row r and column c is (r, c, 7)."""
    rows, columns = np.mgrid[:h, :w]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


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


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (SquareView(8), lambda image, rng: centre_square(image, 8)),
        (SquareView(8, min_crop=0.5), lambda image, rng: random_crop(image, 8, rng, 0.5)),
        (
            SquareView(8, augment=True, min_crop=0.5),
            lambda image, rng: random_colours(random_square(image, 8, rng), rng),
        ),
    ],
    ids=["centre", "crop", "augmented"],
)
@pytest.mark.parametrize("flip", [True, False])
def test_training_view_is_the_square_then_the_flip_of_one_generator(view, expected, flip):
    image = noise(40, 30)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        square = expected(image, rng)
        if flip:
            square = random_flip(square, rng)
        row = TrainingView(view, flip)(image, np.random.default_rng(seed))
        chex.assert_trees_all_equal(row, {"image": square})


@pytest.mark.parametrize(
    ("seed", "square", "crop", "colours", "after"),
    [
        (5, (33, 110), (110, 71), 26026, 298418339),
        (6, (102, 60), (114, 74), 23027, 663048581),
        (7, (127, 124), (120, 74), 21254, 876672786),
        (8, (54, 143), (113, 96), 26026, 51888733),
    ],
)
def test_draws_of_a_seed_never_change(seed, square, crop, colours, after):
    """Centres of the crops, sum of the recoloured pixels, next draw of the generator."""
    image, rng = places(200, 160), np.random.default_rng(seed)
    views = [random_square(image, 20, rng), random_crop(image, 20, rng, smallest=0.5)]
    centres = [view.mean((0, 1))[:2] for view in views]
    np.testing.assert_allclose(centres, [square, crop], atol=1)
    assert random_colours(noise(8, 8), rng).sum() == colours
    random_flip(noise(8, 8), rng)
    assert rng.integers(1 << 30) == after


def test_noise_has_its_mean_and_spread_and_only_depends_on_the_seed():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = with_noise(grey, 25.0, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(128, abs=4 * 25 / np.sqrt(grey.size))
    # Rounding adds the variance of a uniform error.
    assert noisy.std() == pytest.approx(np.sqrt(25**2 + 1 / 12), rel=0.01)
    flat = noisy.astype(float).ravel() - noisy.mean()
    assert abs(np.mean(flat[1:] * flat[:-1])) < 0.02 * 25**2  # pixels and channels by themselves
    np.testing.assert_array_equal(noisy, with_noise(grey, 25.0, np.random.default_rng(0)))
    assert np.any(noisy != with_noise(grey, 25.0, np.random.default_rng(1)))


def test_noise_is_clipped_and_not_wrapped():
    black = with_noise(np.zeros((50, 50, 3), np.uint8), 10.0, np.random.default_rng(0))
    assert np.mean(black == 0) == pytest.approx(0.52, abs=0.03)
    assert black.max() < 60


@pytest.mark.parametrize("factor", [2, 4])
def test_low_resolution_is_pillows_resize_there_and_back(factor):
    image = noise(24, 16)
    small = Image.fromarray(image).resize((16 // factor, 24 // factor), Image.Resampling.BICUBIC)
    expected = small.resize((16, 24), Image.Resampling.BICUBIC)
    degraded = Degradation(downscale=factor)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(degraded, np.asarray(expected))


def test_noise_of_a_smaller_picture_is_enlarged_with_it():
    grey, rng = np.full((64, 64, 3), 128, np.uint8), np.random.default_rng(0)
    degraded = Degradation(noise=20.0, downscale=4)(grey, rng)
    small = with_noise(np.full((16, 16, 3), 128, np.uint8), 20.0, np.random.default_rng(0))
    expected = Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(degraded, np.asarray(expected))


def test_row_of_a_degraded_square_holds_the_square_that_another_row_has():
    image, view = noise(40, 30), SquareView(8, augment=True)
    plain = TrainingView(view, True)(image, np.random.default_rng(3))
    row = TrainingView(view, True, Degradation(noise=9.0))(image, np.random.default_rng(3))
    assert row.keys() == {"image", "target"}
    np.testing.assert_array_equal(row["target"], plain["image"])
    errors = row["image"].astype(float) - row["target"]
    assert 5 < errors.std() < 10  # some are clipped


@pytest.mark.parametrize(
    ("degradation", "words"),
    [
        (Degradation(), "none"),
        (Degradation(noise=2.5), "noise of 2.5 levels"),
        (Degradation(noise=5.0, downscale=2), "shrunk 2 times, noise of 5 levels"),
    ],
)
def test_degradation_in_words(degradation, words):
    assert str(degradation) == words
    assert bool(degradation) == (words != "none")
