"""Results of an evaluation: fingerprints, intervals, paired differences."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq.errors import InputError
from avq.evaluate.results import Results, fingerprint, intervals, paired


def test_fingerprints_tell_images_apart():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    brighter = image.copy()
    brighter[2, 3, 1] ^= 1
    flat = np.zeros_like(image)
    others = [image[::-1], image[:, ::-1], image[..., ::-1], brighter, flat, flat + 1]
    batch = jnp.asarray(np.stack([image, *others, image]))
    first, *rest, last = np.asarray(fingerprint(batch)).tolist()
    assert first == last
    assert len({first, *rest}) == 1 + len(rest)


def numbers(n, seed=0):
    """Deviates of mean 20 and standard deviation 3."""
    return np.random.default_rng(seed).normal(20, 3, n).astype(np.float32)


def test_interval_is_that_of_the_normal_distribution_where_the_mean_is_normal():
    values = numbers(400)
    low, high = intervals({"psnr": values})["psnr"]
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.03)


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    held = [low <= 20 <= high for low, high in intervals_of_many(300, 40)]
    assert 0.90 <= np.mean(held) <= 0.97


def intervals_of_many(sets, n):
    """Intervals of independent sets of images; keys share the resamples, not the values."""
    return intervals({str(seed): numbers(n, seed) for seed in range(sets)}).values()


def test_intervals_are_the_same_each_time_and_narrow_with_more_images():
    few, many = ({"mae": numbers(n)} for n in (50, 5000))
    assert intervals(few) == intervals(few)
    widths = [float(np.diff(intervals(values)["mae"])[0]) for values in (few, many)]
    assert 7 < widths[0] / widths[1] < 14  # the root of 100


def test_interval_of_one_image_is_its_number():
    assert intervals({"psnr": np.array([21.5], np.float32)}) == {"psnr": [21.5, 21.5]}


def results(psnr, images=None):
    images = np.arange(len(psnr)) if images is None else images
    return Results({}, {"psnr": psnr}, np.arange(len(psnr)), images.astype(np.uint32))


def test_paired_difference_is_far_surer_than_the_means():
    before = numbers(200)
    gain = np.random.default_rng(1).normal(0.2, 0.1, 200).astype(np.float32)
    difference = paired(results(before + gain), results(before), "psnr")
    np.testing.assert_allclose(difference.mean, gain.mean(), atol=1e-5)
    half = 1.96 * gain.std() / 200**0.5
    ends = [gain.mean() - half, gain.mean() + half]
    np.testing.assert_allclose([difference.low, difference.high], ends, atol=0.003)


@pytest.mark.parametrize("other", [np.arange(20)[::-1], np.arange(19)])
def test_results_of_different_images_are_not_compared(other):
    with pytest.raises(InputError, match=rf"different images \(20 and {len(other)} of them\)"):
        paired(results(numbers(20)), results(numbers(len(other)), other), "psnr")
