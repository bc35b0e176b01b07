"""`avq restore`: runs that were trained for it, the files it writes, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import avq
from avq import tasks
from avq.data.images import decode
from avq.pixels import heat
from avq.train import loop

SIZES = {"a.png": (16, 16), "b/c.png": (9, 21)}


@pytest.fixture(scope="module")
def trained(plain, tmp_path_factory):
    """Trains a run of two steps with such settings."""

    def train(*settings):
        folder = tmp_path_factory.mktemp("runs") / "run"
        config = tasks.load([*plain, "--config.train.steps=2", *settings])
        assert loop.train(tasks.make_task(config), str(folder)) == 0
        return folder

    return train


@pytest.fixture(scope="module")
def noise_run(trained):
    return trained("--config.data.noise=25", "--config.data.workers=0")


@pytest.fixture(scope="module")
def half_run(trained):
    return trained("--config.data.downscale=2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two images, a mask of the first's size, and one of another."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 5:12] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(mask[:9]).save(folder / "low.png")
    Image.fromarray(0 * mask).save(folder / "black.png")
    return folder


def pixels_of(file):
    return decode(file.read_bytes())


def test_run_on_degraded_images_is_measured_on_them_against_the_images(
    invoke, noise_run, tmp_path, one_line
):
    config = json.loads((noise_run / "config.json").read_text())
    assert (config["data"]["noise"], config["data"]["downscale"]) == (25, 1)
    with Image.open(next((noise_run / "samples").glob("*.png"))) as samples:
        assert samples.size == (4 * 16, 3 * 16)  # seen, images, reconstructions
    result = invoke("eval", noise_run, "--json", tmp_path / "eval.json")
    assert result.exit_code == 0, result.stderr
    measures = json.loads((tmp_path / "eval.json").read_text())
    words = "centre square; the model's input is degraded: noise of 25 levels"
    assert measures["crop"] == words
    records = [json.loads(line) for line in (noise_run / "metrics.jsonl").read_text().splitlines()]
    (evaluated,) = (record for record in records if "eval/psnr" in record)
    assert measures["psnr"] == pytest.approx(evaluated["eval/psnr"], abs=1e-4)
    refused = invoke("eval", noise_run, "--baselines")
    assert refused.exit_code == 2
    assert "the baselines compress clean ones" in one_line(refused.stderr)


def test_denoised_images_have_the_names_and_pixels_of_the_reconstructed_ones(
    invoke, noise_run, photos, tmp_path
):
    result = invoke("restore", "denoise", noise_run, photos / "images", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "2 images" in result.stdout
    for name in SIZES:
        (expected,) = avq.load(noise_run).reconstruct(photos / "images" / name)
        np.testing.assert_array_equal(pixels_of(tmp_path / "out" / name), expected)


def test_enlarged_images_are_as_large_as_the_run_says(invoke, half_run, photos, tmp_path):
    result = invoke("restore", "upscale", half_run, photos / "images", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    for name, (height, width) in SIZES.items():
        assert pixels_of(tmp_path / "out" / name).shape == (2 * height, 2 * width, 3)


@pytest.mark.parametrize(("shown", "usual"), [("error", False), ("both", True)])
def test_maps_have_the_size_of_the_images_and_scores_stand_in_a_file(
    invoke, run, photos, image_folder, tmp_path, shown, usual
):
    others = ("--usual", image_folder / "train", "--map", shown) if usual else ()
    scores, out = tmp_path / "scores.json", tmp_path / "maps"
    result = invoke(
        *("restore", "anomaly", run, photos / "images", "-o", out, "--json", scores, *others)
    )
    assert result.exit_code == 0, result.stderr
    written = json.loads(scores.read_text())["images"]
    assert written.keys() == SIZES.keys()
    for name, size in SIZES.items():
        assert written[name].keys() == {"error", "rarity", "both"}
        picture = pixels_of(out / name)
        assert picture.shape == (*size, 3)
        brightest = heat(np.full((1, 1), written[name][shown] / 4))
        assert np.all(picture == brightest, axis=-1).any()
    highest = max(SIZES, key=lambda name: written[name][shown])
    assert f"highest: {highest}, {written[highest][shown]:.2f}" in result.stdout


def test_hole_is_filled_and_the_rest_kept(invoke, run, photos, tmp_path):
    out, image = tmp_path / "filled.png", photos / "images" / "a.png"
    result = invoke("restore", "inpaint", run, image, "--mask", photos / "mask.png", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "35 of 256 pixels filled" in result.stdout
    changed = np.any(pixels_of(out) != pixels_of(image), axis=-1)
    hole = pixels_of(photos / "mask.png")[..., 0] > 0
    assert changed[hole].mean() > 0.9
    assert not changed[~hole].any()


def test_prior_fills_a_hole_by_its_seed(invoke, released, prior_run, photos, tmp_path):
    image, made = photos / "images" / "a.png", []
    arguments = ("--mask", photos / "mask.png", "--prior", prior_run, "--temperature", 2)
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{number}.png"
        flags = (*arguments, "--seed", seed, "-o", out)
        result = invoke("restore", "inpaint", released, image, *flags)
        assert result.exit_code == 0, result.stderr
        made.append(pixels_of(out))
    hole = pixels_of(photos / "mask.png")[..., 0] > 0
    np.testing.assert_array_equal(made[0], made[1])
    assert np.any(made[0] != made[2])
    np.testing.assert_array_equal(made[0][~hole], pixels_of(image)[~hole])


def test_map_of_surprisal_is_written_with_its_score(invoke, run, prior_run, photos, tmp_path):
    scores, image = tmp_path / "scores.json", photos / "images" / "a.png"
    flags = ("--prior", prior_run, "--map", "surprisal", "--json", scores)
    result = invoke("restore", "anomaly", run, image, "-o", tmp_path / "maps", *flags)
    assert result.exit_code == 0, result.stderr
    (score,) = json.loads(scores.read_text())["images"].values()
    brightest = heat(np.full((1, 1), score["surprisal"] / 4))
    assert np.all(pixels_of(tmp_path / "maps" / "a.png") == brightest, axis=-1).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("denoise {run} {dir}/images -o {tmp}/o", "not trained to remove noise alone"),
        ("upscale {run} {dir}/images -o {tmp}/o", "not trained on a lower resolution"),
        ("denoise {tmp} {dir}/images -o {tmp}/o", "is not a run"),
        ("anomaly {run} {dir}/none.png -o {tmp}/o", "no such file"),
        ("anomaly {run} {dir}/images -o {tmp}/o --map x", "'x' is not one of error, rarity, both"),
        ("anomaly {run} {dir}/images -o {tmp}/o --map surprisal", "needs the probabilities of a"),
        ("anomaly {run} {dir}/images -o {tmp}/o --json {tmp}/no/s.json", "there is no folder"),
        ("anomaly {run} {dir}/images -o {tmp}/o --usual {dir}/no", "no such file"),
        ("inpaint {model} {dir}/images/a.png --mask {dir}/low.png -o {tmp}/o.png", "mask has 16x9"),
        ("inpaint {model} {dir}/images/a.png --mask {dir}/black.png -o {tmp}/o.png", "no white"),
        ("inpaint {model} {dir}/images/a.png --mask {dir}/mask.png -o {tmp}/o.jpg", "no .png file"),
        ("inpaint {model} {dir}/no.png --mask {dir}/mask.png -o {tmp}/o.png", "cannot be read"),
    ],
)
def test_what_cannot_be_done_gets_one_line(
    invoke, one_line, run, released, photos, tmp_path, arguments, message
):
    places = {"dir": photos, "tmp": tmp_path, "run": run, "model": released}
    result = invoke("restore", *arguments.format(**places).split())
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model_and_flags", "message"),
    [
        ("{model} --mask {dir}/mask.png --seed 1", "--seed goes with --prior"),
        ("{model} --mask {dir}/low.png --prior {prior}", "mask has 16x9"),
        ("{model} --mask {dir}/mask.png --prior {run}", "is not the run of a prior"),
        ("photos --mask {dir}/mask.png --prior {prior}", "models the codes of"),
        ("{model} --mask {dir}/mask.png --prior {prior} --step 2", "--step: a prior goes"),
    ],
)
def test_what_a_prior_cannot_fill_gets_one_line(
    invoke, one_line, run, released, prior_run, photos, tmp_path, model_and_flags, message
):
    places = {"dir": photos, "run": run, "model": released, "prior": prior_run}
    which, *flags = model_and_flags.format(**places).split()
    image, out = photos / "images" / "a.png", tmp_path / "o.png"
    result = invoke("restore", "inpaint", which, image, "-o", out, *flags)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert not out.exists()


def test_maps_of_a_run_whose_images_are_gone_need_usual_ones(
    invoke, one_line, run, photos, tmp_path
):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    result = invoke("restore", "anomaly", tmp_path / "run", photos / "images", "-o", tmp_path / "o")
    assert result.exit_code == 2
    assert "unless others are given: data.path: no such file" in one_line(result.stderr)


@pytest.mark.parametrize("verb", ["denoise", "upscale", "anomaly", "inpaint"])
def test_help_has_an_example(invoke, verb):
    result = invoke("restore", verb, "--help")
    assert result.exit_code == 0
    assert f"\n    avq restore {verb} runs/" in result.stdout
