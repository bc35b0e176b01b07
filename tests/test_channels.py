"""Runs of grey images and of images with alpha: from training to released files."""

import json
from dataclasses import dataclass
from pathlib import Path

import chex
import numpy as np
import pytest
from PIL import Image

import avq
from avq import tasks
from avq.apply.codec import fitting
from avq.apply.stablehlo import differences, programs
from avq.describe import describe
from avq.train import loop

SIZE = 16
MODES = {1: "L", 4: "RGBA"}


@dataclass
class Trained:
    """A run, the files it was trained on, and their squares as Pillow alone makes them."""

    channels: int
    run: Path
    files: list[Path]
    squares: np.ndarray
    arguments: list[str]


@pytest.fixture(scope="module", params=MODES)
def trained(request, plain, tmp_path_factory):
    """A run of two steps; its grey images have sixteen bits."""
    channels, folder = request.param, tmp_path_factory.mktemp("channels")
    rng = np.random.default_rng(0)
    files, squares = [], []
    for i in range(12):
        files.append(folder / "images" / ("test" if i < 3 else "train") / f"{i:02d}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (4, 4, 4)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((20, 24), Image.Resampling.BILINEAR)
        image = image.convert(MODES[channels])
        square = image.crop((0, 2, 20, 22)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        squares.append(np.asarray(square).reshape(SIZE, SIZE, channels))
        if channels == 1:
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(files[-1])
    arguments = [*plain, f"--config.data.path={folder / 'images'}", "--config.train.steps=2"]
    arguments += [f"--config.data.channels={channels}", "--config.train.eval_every=2"]
    assert loop.train(tasks.make_task(tasks.load(arguments)), str(folder / "run")) == 0
    return Trained(channels, folder / "run", files, np.stack(squares), arguments)


@pytest.fixture(scope="module")
def model(trained):
    return avq.load(trained.run)


def test_measures_are_of_all_channels(invoke, trained, model, tmp_path):
    result = invoke("eval", trained.run, "--json", tmp_path / "eval.json")
    assert result.exit_code == 0, result.output
    measures = json.loads((tmp_path / "eval.json").read_text())
    squares = trained.squares[:3].astype(float)
    made = model.reconstruct(trained.squares[:3]).astype(float)
    assert made.shape == (3, SIZE, SIZE, trained.channels)
    assert model.dimensions == SIZE * SIZE * trained.channels
    assert measures["mae"] == pytest.approx(np.abs(made - squares).mean() / 127.5, rel=1e-5)
    decibels = 10 * np.log10(255**2 / np.square(made - squares).mean((1, 2, 3)))
    assert measures["psnr"] == pytest.approx(decibels.mean(), abs=1e-3)


def test_statistics_are_of_all_channels(trained):
    summary = json.loads((trained.run / "dataset.json").read_text())
    pixels = trained.squares[3:] / 127.5 - 1
    assert summary["pixel_mean"] == pytest.approx(pixels.mean(), abs=1e-6)
    assert summary["pixel_variance"] == pytest.approx(pixels.var(), abs=1e-6)


def test_samples_show_the_images_as_the_eye_sees_them(trained):
    with Image.open(trained.run / "samples" / "0000002.png") as picture:
        assert picture.mode == "RGB"
        row = np.asarray(picture).astype(float)[:SIZE]
    squares = np.concatenate(list(trained.squares[:3]), axis=1).astype(float)
    if trained.channels == 1:
        np.testing.assert_array_equal(row, squares.repeat(3, -1))
        return
    down, across = np.mgrid[:SIZE, : 3 * SIZE] // 8
    ground = np.where((down + across) % 2, 204, 255)[..., None]
    share = squares[..., 3:] / 255
    assert np.abs(row - squares[..., :3] * share - ground * (1 - share)).max() <= 1


def test_file_is_compressed_and_comes_back_in_its_mode(invoke, trained, model, tmp_path):
    file, out = tmp_path / "a.avq", tmp_path / "a.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "BATCH", 256)
        result = invoke("compress", trained.files[0], "-o", file, "--model", trained.run)
    assert result.exit_code == 0, result.output
    assert invoke("decompress", file, "-o", out, "--model", trained.run).exit_code == 0
    with Image.open(out) as picture:
        assert (picture.mode, picture.size) == (MODES[trained.channels], (20, 24))
        made = np.asarray(picture).reshape(1, 24, 20, trained.channels)
    np.testing.assert_array_equal(made, model.reconstruct(trained.files[0]))


def test_released_model_has_the_same_channels_and_codes(invoke, trained, model, tmp_path):
    folder = tmp_path / "released"
    result = invoke("export", trained.run, folder, "--images", trained.files[0])
    assert result.exit_code == 0, result.output
    again = avq.load(folder)
    assert again.channels == trained.channels
    assert f"of {trained.channels} channels" in repr(again)
    chex.assert_trees_all_equal(again.encode(trained.squares), model.encode(trained.squares))
    card = (folder / "README.md").read_text()
    assert f"uint8 [B, H, W, {trained.channels}]" in card
    assert f"Discrete autoencoder of {MODES[trained.channels]} images" in card


def test_programs_take_and_make_its_channels(trained, model):
    files = programs(model.trained, SIZE)
    assert f"uint8[b,{SIZE},{SIZE},{trained.channels}]" in files["stablehlo.json"].decode()
    assert differences(files, model.trained, SIZE) == (0, 0)


def test_described_decoder_makes_its_channels(trained):
    report = describe(tasks.load(trained.arguments))
    (decoder,) = (row for row in report["modules"] if row["name"] == "decoder")
    assert decoder["output"] == [SIZE, SIZE, trained.channels]


def test_grey_image_and_its_rgb_copy_have_the_same_codes(trained, model):
    rgb = np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 1), np.uint8).repeat(3, -1)
    chex.assert_trees_all_equal(model.encode(rgb), model.encode(rgb[..., 0]))
    chex.assert_trees_all_equal(model.encode(rgb), model.encode(Image.fromarray(rgb[0])))
