"""Baselines of a model over a folder of images, against figures by other means."""

from functools import partial

import numpy as np
import pytest
from PIL import features
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from avq import parallel
from avq.data.dataset import ImageSet, Summary
from avq.data.sources import open_source
from avq.evaluate import baselines
from avq.evaluate.baselines import Baseline, behind, measure_baselines, table
from avq.evaluate.baselines.codecs import CODECS
from avq.evaluate.baselines.patch_kmeans import patch_codebooks
from avq.evaluate.results import Results
from avq.models.build import make_autoencoder

SUMMARY = Summary({"train": 16, "test": 4}, 0.0, 0.5, 0.25, 16, 0)


def autoencoder(levels=2, decoder_inputs="all"):
    """Grids of 4x4 and 2x2 of 16 pixels, 8 codes each; never run."""
    shape = {"levels": levels, "decoder_inputs": decoder_inputs, "base_filters": (4, 4)}
    return make_autoencoder({**shape, "codebook_size": 8, "code_dim": 4, "quantizer": "ema"})


@pytest.fixture
def views(squares, image_folder):
    return squares(image_folder / "train")


def measure(image_folder, views, model):
    images = ImageSet(open_source(str(image_folder / "test")))
    figures = np.array([20, 21, 22, 23], np.float32)
    rows, zeros = np.arange(4), np.zeros(4, np.uint32)
    results = Results({}, {"psnr": figures, "ssim": figures / 100}, rows, zeros)
    fit, mesh = partial(patch_codebooks, views), parallel.make_mesh(2)
    return measure_baselines(model, results, images, SUMMARY, fit, mesh, 4)


@pytest.fixture
def patches_only(monkeypatch):
    monkeypatch.setattr(baselines, "CODECS", {})


def test_patch_kmeans_is_measured_as_skimage_measures_it(image_folder, views, images, patches_only):
    actual = measure(image_folder, views, autoencoder(levels=1))
    (codebook,) = patch_codebooks(views, (4,), (8,))
    made = np.empty_like(images)
    for place in np.ndindex(4, 4, 4):
        image, top, left = place[0], 4 * place[1], 4 * place[2]
        where = np.s_[image, top : top + 4, left : left + 4]
        patch = images[where].ravel() / 127.5 - 1
        code = codebook[np.square(codebook - patch).sum(1).argmin()].reshape(4, 4, 3)
        made[where] = np.round((np.clip(code, -1, 1) + 1) * 127.5)
    pairs = list(zip(images, made, strict=True))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [structural_similarity(*p, data_range=255, channel_axis=-1, **options) for p in pairs]
    assert list(actual) == ["patch_kmeans"]
    assert actual["patch_kmeans"].psnr == pytest.approx(
        np.mean([peak_signal_noise_ratio(*pair) for pair in pairs]), abs=1e-3
    )
    assert actual["patch_kmeans"].ssim == pytest.approx(np.mean(ssim), abs=1e-4)
    assert (actual["patch_kmeans"].n, actual["patch_kmeans"].model_psnr) == (4, 21.5)


@pytest.mark.parametrize(
    ("decoder_inputs", "bits"),
    [
        ("all", {"patch_kmeans": 3 * 20 / 256, "patch_kmeans_one_level": 3 * 16 / 256}),
        ("finest", {"patch_kmeans": 3 * 16 / 256, "patch_kmeans_residual": 3 * 20 / 256}),
    ],
)
def test_patch_kmeans_has_the_models_own_bits(
    image_folder, views, patches_only, decoder_inputs, bits
):
    model = autoencoder(2, decoder_inputs)
    actual = measure(image_folder, views, model)
    assert {name: of.bits_per_pixel for name, of in actual.items()} == bits
    assert actual["patch_kmeans"].bits_per_pixel == model.bits_per_pixel(16)


def test_codec_is_measured_on_real_files(image_folder, views, images, monkeypatch):
    codec = CODECS["webp"]
    monkeypatch.setattr(baselines, "CODECS", {"webp": codec})
    actual = measure(image_folder, views, autoencoder(levels=1))["webp"]
    smallest = [codec.encode(image, codec.options[0]) for image in images]  # 6 bytes asked for
    pairs = [(image, codec.decode(f)) for image, f in zip(images, smallest, strict=True)]
    psnr = np.mean([peak_signal_noise_ratio(*pair) for pair in pairs])
    assert actual.psnr == pytest.approx(psnr, abs=1e-3)
    assert actual.bits_per_pixel == 8 * sum(map(len, smallest)) / (4 * 16 * 16)
    assert (actual.n, actual.above, actual.model_psnr) == (4, 4, 21.5)


def test_codecs_are_measured_on_evenly_spaced_images(image_folder, views, monkeypatch):
    monkeypatch.setattr(baselines, "CODECS", {"jpeg": CODECS["jpeg"]})
    monkeypatch.setattr(baselines, "CODED", 2)
    actual = measure(image_folder, views, autoencoder(levels=1))["jpeg"]
    assert (actual.n, actual.model_psnr) == (2, 21.5)  # of the first and the last: 20 and 23


def test_codec_that_pillow_lacks_is_left_out_with_a_word(image_folder, views, monkeypatch, caplog):
    monkeypatch.setattr(features, "get_supported", lambda: ["jpg"])
    actual = measure(image_folder, views, autoencoder(levels=1))
    assert list(actual) == ["patch_kmeans", "jpeg"]
    assert "avif is left out: this Pillow was built without it" in caplog.text


def test_codec_without_alpha_is_left_out_of_images_that_have_it(views, caplog, monkeypatch):
    monkeypatch.setattr(baselines, "CODECS", {"jpeg": CODECS["jpeg"]})
    monkeypatch.setattr(baselines, "_patch_quantizers", lambda model, size: {})
    images = ImageSet(open_source("docs/images"), channels=4)
    results = Results({}, {"psnr": np.ones(1, np.float32)}, np.arange(1), np.zeros(1, np.uint32))
    others = partial(patch_codebooks, views), parallel.make_mesh(1), 1
    assert measure_baselines(autoencoder(levels=1), results, images, SUMMARY, *others) == {}
    assert "jpeg is left out: it cannot store 4 channels" in caplog.text


def figures(model_psnr, above=0):
    return {
        "patch_kmeans": Baseline(24.8512, 0.8, 0.625, 1000, model_psnr),
        "jpeg": Baseline(19.2, 0.52, 0.7151, 100, model_psnr, above),
    }


def test_model_behind_patch_kmeans_is_said_to_be():
    sentence = "The model is behind patch k-means at equal bits: 20.50 against 24.85 dB."
    assert behind(figures(20.5)) == sentence
    assert behind(figures(24.86)) == ""
    assert list(table(figures(20.5)))[-1] == sentence


def test_table_has_a_row_a_baseline_and_names_codecs_that_cannot_go_so_low():
    rows = list(table(figures(30.0, above=93)))
    assert rows[1].split() == ["patch_kmeans", "0.6250", "24.8512", "0.8000", "30.0000", "1000"]
    assert len({len(row) for row in rows[:3]}) == 1
    assert rows[-1].startswith("jpeg: 93 of 100 images have no file as small")
