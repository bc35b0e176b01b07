"""Metrics by frozen networks: what is counted, with small networks in place of the large ones."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from avq import parallel
from avq.errors import InputError
from avq.evaluate import network_metrics
from avq.evaluate.distances import Moments, frechet_distance, kernel_distances
from avq.evaluate.evaluation import Evaluator, samples
from avq.evaluate.network_metrics import (
    InceptionDistances,
    NetworkOutputs,
    PerceptualDistance,
    with_networks,
)
from avq.evaluate.results import Results

from .evaluation_helpers import SUMMARY, Dimmer, image_set

FILE = Path("file")
HALF = {"gain": jnp.float32(0.5)}


def run(folder, metrics, devices=2, batch_size=8, **options):
    """Results, of which those without networks are made up."""
    images = image_set(folder, max_rejected=0.5)
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(devices))
    rows = np.array([i for i in range(len(images)) if images[i] is not None])
    others = Results({"n": 1}, {}, rows, rows.astype(np.uint32))
    networks = NetworkOutputs(metrics, evaluator)
    parts = networks.parts(HALF, images, SUMMARY, batch_size, **options)
    results = with_networks(others, metrics, parts)
    assert results.measures.pop("n") == 1
    return results


def originals_and_reconstructions(folder):
    """All images, 0..255, and what `Dimmer` makes of them."""
    originals = samples(image_set(folder, max_rejected=0.5), SUMMARY.size, n=20)
    return originals, np.round((originals / 127.5 - 1) / 2 * 127.5 + 127.5)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 3), (4, 8)])
def test_distances_are_between_reconstructions_and_originals(
    image_folder, small_networks, devices, batch_size
):
    metric = InceptionDistances(FILE, 20)
    values = run(image_folder, [metric], devices, batch_size).measures
    features = [2 * x.mean((1, 2)) for x in originals_and_reconstructions(image_folder)]
    expected = frechet_distance(*map(Moments.of, features))
    np.testing.assert_allclose(values["fid"], expected, rtol=1e-5)
    np.testing.assert_allclose(values["kid"], kernel_distances(*features)[0], rtol=1e-5)
    assert set(values) == {"fid", "kid"}
    assert metric.digest == "digest of file"


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 3), (4, 8)])
def test_perceptual_distance_is_the_mean_over_images(
    image_folder, small_networks, devices, batch_size
):
    metric = PerceptualDistance([Path("network"), Path("heads")], 16)
    done: list[int] = []
    results = run(image_folder, [metric], devices, batch_size, on_images=done.append)
    originals, made = originals_and_reconstructions(image_folder)
    expected = 2 * np.abs(made - originals).mean((1, 2, 3)) / 127.5
    np.testing.assert_allclose(results.per_image["lpips_vgg"], expected, rtol=1e-5)
    np.testing.assert_allclose(results.measures["lpips_vgg"], expected.mean(), rtol=1e-5)
    assert sum(done) == 20
    assert metric.digest == "digest of network+digest of heads"


def test_unreadable_images_and_padding_do_not_count(image_folder, small_networks, tmp_path):
    for number, path in enumerate(sorted(image_folder.rglob("*.png"))):
        content = b"no picture" if number in (0, 7, 19) else path.read_bytes()
        (tmp_path / f"{number:02d}.png").write_bytes(content)
    results = run(tmp_path, [PerceptualDistance([FILE], 16), InceptionDistances(FILE, 20)])
    paths = sorted(path for path in tmp_path.glob("*.png") if len(path.read_bytes()) > 20)
    for path in tmp_path.glob("*.png"):
        if path not in paths:
            path.unlink()
    metrics = [PerceptualDistance([FILE], 16), InceptionDistances(FILE, 17)]
    again = run(tmp_path, metrics)
    assert run(tmp_path, metrics).measures == again.measures  # each run is a new start
    assert results.measures == pytest.approx(again.measures, rel=1e-6)
    assert len(results.per_image["lpips_vgg"]) == 17


def test_kernel_distance_of_a_large_set_is_of_a_random_sample(small_networks, monkeypatch):
    monkeypatch.setattr(network_metrics, "SAMPLE", 10)
    metric = InceptionDistances(FILE, 40, frechet=False)
    outputs = np.random.default_rng(0).normal(size=(40, 2, 3)).astype(np.float32)
    for part in np.split(outputs, 8):
        metric.add(part)
    rows = np.sort(np.random.default_rng(0).permutation(40)[:10])
    expected = kernel_distances(outputs[rows, 0], outputs[rows, 1])[0]
    assert metric.summary() == {"kid": pytest.approx(expected)}


def test_frechet_distance_of_too_few_images_is_refused_before_any_work():
    with pytest.raises(InputError, match=r"over 2,048 features .* there are 1,000\."):
        InceptionDistances(Path("no such file"), 1000)


@pytest.mark.parametrize(("kind", "side"), [("vgg", 16), ("alex", 31)])
def test_images_that_are_too_small_for_the_network_are_refused(
    small_networks, monkeypatch, kind, side
):
    monkeypatch.setattr(network_metrics, "lpips_variables", lambda weights: (kind, {}))
    PerceptualDistance([FILE], side)
    with pytest.raises(InputError, match=f"needs images of {side} pixels, and these have"):
        PerceptualDistance([FILE], side - 1)
