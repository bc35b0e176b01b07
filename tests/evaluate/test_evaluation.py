"""Evaluation of a stand-in model over a folder of images, split over devices."""

import shutil

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from avq import parallel
from avq.data.views import Degradation, with_noise
from avq.errors import InputError
from avq.evaluate.evaluation import Evaluator, samples

from .evaluation_helpers import SUMMARY, Dimmer, image_set

HALF = {"gain": jnp.float32(0.5)}


def evaluate(folder, variables=HALF, devices=2, batch_size=8, **options):
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(devices))
    images = image_set(folder)
    return evaluator.evaluate(variables, images, SUMMARY, batch_size, **options)


def measure(*arguments, **options):
    return evaluate(*arguments, **options).measures


def pixels(folder):
    """All images as centre squares in [-1, 1]."""
    return samples(image_set(folder), SUMMARY.size, n=20).astype(np.float64) / 127.5 - 1


def test_keys_are_those_of_avq_eval_in_its_order(image_folder):
    keys = "n mae mae_over_std mae_over_var psnr psnr_pooled ssim ms_ssim ms_ssim_scales symmetry"
    keys += " active_codes perplexity usage entropy_bits effective_rank bits_per_pixel"
    assert list(measure(image_folder)) == [*keys.split(), "decoded_levels"]


def test_measures_are_those_of_the_images(image_folder):
    measures = measure(image_folder)
    originals = pixels(image_folder)
    halved = in_bytes(originals / 2)
    assert measures["n"] == len(originals) == 20
    mae = np.abs(originals - halved).mean()
    np.testing.assert_allclose(measures["mae"], mae, rtol=1e-5)
    np.testing.assert_allclose(measures["mae_over_std"], mae / 0.5, rtol=1e-5)
    np.testing.assert_allclose(measures["mae_over_var"], mae / 0.25, rtol=1e-5)
    error = np.square(originals - halved).mean((1, 2, 3))
    np.testing.assert_allclose(measures["psnr"], np.mean(10 * np.log10(4 / error)), rtol=1e-5)
    assert measures["active_codes"] == [2, 2]
    assert measures["usage"] == [0.5, 1.0]
    np.testing.assert_allclose(measures["effective_rank"], [1, 1])
    assert measures["bits_per_pixel"] == 0.5625


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 3), (4, 16), (8, 32)])
def test_measures_do_not_depend_on_batches_and_devices(image_folder, devices, batch_size):
    actual = measure(image_folder, devices=devices, batch_size=batch_size)
    chex.assert_trees_all_close(actual, measure(image_folder), rtol=1e-5)


def in_bytes(images):
    """Images in [-1, 1] as 256 levels hold them."""
    return np.round((np.clip(images, -1, 1) + 1) * 127.5) / 127.5 - 1


def test_images_are_measured_as_a_file_holds_them(image_folder):
    measures = measure(image_folder, {"gain": jnp.float32(3)})
    originals = pixels(image_folder)
    assert np.any(np.abs(3 * originals) > 1)
    mae = np.abs(in_bytes(3 * originals) - originals).mean()
    np.testing.assert_allclose(measures["mae"], mae, rtol=1e-5)


def test_one_program_serves_all_variables(image_folder):
    model = Dimmer()
    evaluator = Evaluator(model, parallel.make_mesh(1))
    results = [
        evaluator.evaluate({"gain": jnp.float32(g)}, image_set(image_folder), SUMMARY, 8)
        for g in (0.5, 0.75)
    ]
    errors = [each.measures["mae"] for each in results]
    assert model.traces == 1
    np.testing.assert_allclose(errors[0], 2 * errors[1], rtol=1e-2)


def test_images_done_are_reported(image_folder):
    done: list[int] = []
    evaluate(image_folder, on_images=done.append)
    assert done == [8, 8, 4]


def test_set_without_readable_images_is_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(1))
    with pytest.raises(InputError, match="none of the 1 images is readable"):
        evaluator.evaluate(HALF, image_set(tmp_path, max_rejected=1.0), SUMMARY, 1)


def test_grid_is_images_above_their_reconstructions(image_folder):
    images = samples(image_set(image_folder), SUMMARY.size, n=3)
    grid = Evaluator(Dimmer(), parallel.make_mesh(1)).grid(HALF, images)
    assert grid.shape == (32, 48, 3)
    np.testing.assert_array_equal(grid[:16, 16:32], images[1])
    halved = np.round((images[1] / 127.5 - 1) / 2 * 127.5 + 127.5)
    np.testing.assert_allclose(grid[16:, 16:32], halved, atol=1)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 3), (8, 32)])
def test_numbers_of_every_image_stand_with_its_row(image_folder, devices, batch_size):
    results = evaluate(image_folder, devices=devices, batch_size=batch_size)
    originals = pixels(image_folder)
    errors = np.abs(in_bytes(originals / 2) - originals).mean((1, 2, 3))
    np.testing.assert_array_equal(results.rows, np.arange(20))
    np.testing.assert_allclose(results.per_image["mae"], errors, rtol=1e-5)
    for key, values in results.per_image.items():
        np.testing.assert_allclose(values.mean(), results.measures[key], rtol=1e-5)


def test_unreadable_images_have_no_numbers(image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "images")
    for name in ("train/03.png", "train/10.png"):
        (tmp_path / "images" / name).write_bytes(b"no picture")
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(2))
    results = evaluator.evaluate(HALF, image_set(tmp_path / "images", 0.5), SUMMARY, 8)
    images = image_set(tmp_path / "images")
    kept = [row for row in range(20) if images.source.name(row)[-6:] not in ("03.png", "10.png")]
    np.testing.assert_array_equal(results.rows, kept)
    whole = evaluate(image_folder)
    assert results.measures["n"] == 18
    chex.assert_trees_all_close(
        results.per_image, {key: values[kept] for key, values in whole.per_image.items()}, rtol=1e-5
    )
    np.testing.assert_array_equal(results.fingerprints, whole.fingerprints[kept])


def test_degraded_images_are_compared_with_the_images_themselves(image_folder):
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(2), degradation=Degradation(noise=30.0))
    images = image_set(image_folder)
    results = evaluator.evaluate({"gain": jnp.float32(1)}, images, SUMMARY, 8)
    clean = samples(images, SUMMARY.size, n=20)
    noisy = np.stack(
        [with_noise(image, 30.0, np.random.default_rng(row)) for row, image in enumerate(clean)]
    )
    errors = np.abs(noisy.astype(float) - clean).mean((1, 2, 3)) / 127.5
    np.testing.assert_allclose(results.per_image["mae"], errors, rtol=1e-5)
    np.testing.assert_array_equal(results.fingerprints, evaluate(image_folder).fingerprints)


def test_grid_of_degraded_images_begins_with_them(image_folder):
    images = samples(image_set(image_folder), SUMMARY.size, n=3)
    degradation = Degradation(downscale=2)
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(1), degradation=degradation)
    grid = evaluator.grid({"gain": jnp.float32(1)}, images)
    assert grid.shape == (48, 48, 3)
    degraded = degradation(images[1], np.random.default_rng(0))
    np.testing.assert_array_equal(grid[:16, 16:32], degraded)
    np.testing.assert_array_equal(grid[16:32, 16:32], images[1])
    np.testing.assert_array_equal(grid[32:, 16:32], degraded)
