"""`avq eval` of a run, against figures by other means; and what it refuses."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


@pytest.fixture(scope="module")
def evaluated(run, invoke, tmp_path_factory):
    """Output of `avq eval`, its JSON and its page."""
    folder = tmp_path_factory.mktemp("evaluated")
    measures, page = folder / "measures.json", folder / "page.html"
    result = invoke("eval", run, "--json", measures, "--report", page)
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(measures.read_text()), page.read_text()


def test_eval_writes_every_key_of_the_contract(evaluated):
    _, measures, _ = evaluated
    keys = "n mae mae_over_std mae_over_var psnr psnr_pooled ssim ms_ssim symmetry active_codes"
    keys += " perplexity usage entropy_bits effective_rank bits_per_pixel interval"
    assert set(keys.split()) <= set(measures)
    assert (measures["image_size"], measures["crop"]) == (16, "centre square")
    assert measures["bits_per_pixel"] == pytest.approx(16 * 3 / 16**2)  # the finest grid is sent
    assert measures["decoded_levels"] == 1
    assert (measures["step"], measures["split"]) == (2, "test")
    assert measures["trained_on"] == 0


def test_eval_equals_an_evaluation_by_other_means(
    evaluated, tokenizer, images, squares, image_folder
):
    _, measures, _ = evaluated
    returned = np.asarray(tokenizer.reconstruct(images))
    made, true = returned / 127.5 - 1, images / 127.5 - 1
    pixels = squares(image_folder / "train") / 127.5 - 1
    assert measures["n"] == 4
    mae = np.abs(made - true).mean()
    assert measures["mae"] == pytest.approx(mae, abs=1e-3)
    assert measures["mae_over_std"] == pytest.approx(measures["mae"] / pixels.std(), rel=1e-4)
    assert measures["mae_over_var"] == pytest.approx(measures["mae"] / pixels.var(), rel=1e-4)
    pairs = list(zip(images, returned, strict=True))
    psnr = np.mean([peak_signal_noise_ratio(*pair) for pair in pairs])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [structural_similarity(*p, data_range=255, channel_axis=-1, **options) for p in pairs]
    assert measures["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert measures["ssim"] == pytest.approx(np.mean(ssim), abs=1e-4)


def test_eval_counts_codes_over_all_images(evaluated, tokenizer, images):
    _, measures, _ = evaluated
    for level, grid in enumerate(tokenizer.encode(images)):
        counts = np.bincount(np.asarray(grid).ravel(), minlength=8)
        share = counts[counts > 0] / counts.sum()
        assert measures["active_codes"][level] == len(share)
        assert measures["usage"][level] == len(share) / 8
        entropy = -np.sum(share * np.log(share))
        assert measures["perplexity"][level] == pytest.approx(np.exp(entropy), rel=1e-4)


def test_eval_prints_its_measures_and_where_the_page_is(evaluated):
    printed, measures, _ = evaluated
    for name in measures.keys() - {"interval", "by_source", "weights"}:
        assert f"\n{name} " in f"\n{printed}"
    low, high = measures["interval"]["psnr"]
    assert f"{measures['psnr']:.4f}   95 %: {low:.4f} to {high:.4f}\n" in printed
    assert "report: " in printed
    assert "page.html" in printed


def test_report_of_eval_is_a_page_about_the_run(evaluated, run):
    _, measures, page = evaluated
    assert page.startswith("<!doctype html>")
    assert str(run) in page
    assert f"{measures['psnr']:.4f}" in page
    assert "data:image/png;base64," in page


def test_eval_of_all_images_of_another_folder(
    run, invoke, tokenizer, squares, image_folder, tmp_path
):
    place = image_folder / "train"
    written = tmp_path / "measures.json"
    result = invoke(
        *("eval", run, "--data", place, "--split", "all", "--batch-size", 8, "--json", written),
        *("--aligned", "celeba"),
    )
    assert result.exit_code == 0, result.output
    measures, images = json.loads(written.read_text()), squares(place)
    assert 0 < measures["eye_colour"] < measures["interval"]["eye_colour"][1] < 2
    mae = np.abs(np.asarray(tokenizer.reconstruct(images)) / 127.5 - images / 127.5).mean()
    assert measures["n"] == 16
    assert measures["mae"] == pytest.approx(mae, abs=1e-3)
    assert measures["data"] == str(place)
    assert measures["trained_on"] == 16  # train/a.png of the run's folder is a.png here


def test_eval_of_the_training_images_of_a_zip(
    run, invoke, tokenizer, squares, image_folder, tmp_path
):
    place, written = tmp_path / "images.zip", tmp_path / "measures.json"
    kept = [*sorted(image_folder.glob("train/*.png"))[:3], *image_folder.glob("test/*.png")]
    with zipfile.ZipFile(place, "w") as archive:
        for path in kept:
            archive.write(path, path.relative_to(image_folder))
    result = invoke("eval", run, "--data", place, "--split", "train", "--json", written)
    assert result.exit_code == 0, result.output
    measures, images = json.loads(written.read_text()), squares(image_folder / "train")[:3]
    mae = np.abs(np.asarray(tokenizer.reconstruct(images)) / 127.5 - images / 127.5).mean()
    assert (measures["n"], measures["split"], measures["trained_on"]) == (3, "train", 3)
    assert measures["mae"] == pytest.approx(mae, abs=1e-3)


def test_eval_of_a_step_is_of_that_checkpoint(run, invoke, evaluated, tmp_path):
    result = invoke("eval", run, "--step", 2, "--json", tmp_path / "measures.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "measures.json").read_text()) == evaluated[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", 1], "has no checkpoint of step 1. There are: 2."),
        (["--split", "validation"], "--split: 'validation' is not one of train, test, all."),
        (["--split", "all"], "--split all goes with --data."),
        (["--aligned", "dogs"], "--aligned: 'dogs' is not one of celeba, celeba_hq."),
        (["--data", "/no/such/place"], "no such file or folder: '/no/such/place'"),
    ],
)
def test_eval_refuses_bad_input_in_one_line(run, invoke, one_line, arguments, message):
    result = invoke("eval", run, *arguments)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert result.stdout == ""


def test_eval_refuses_a_folder_that_is_no_run_in_one_line(invoke, one_line, tmp_path):
    result = invoke("eval", tmp_path)
    assert result.exit_code == 2
    assert "is not a run" in one_line(result.stderr)


def test_eval_of_images_of_which_none_is_readable_is_refused_in_one_line(
    run, invoke, one_line, tmp_path
):
    (tmp_path / "a.png").write_bytes(b"")
    result = invoke("eval", run, "--data", tmp_path, "--split", "all")
    assert result.exit_code == 2
    assert "1 of 1 images are unreadable" in one_line(result.stderr)


@pytest.fixture
def moved(run, image_folder, tmp_path):
    """A copy of the run whose images are a copy too: the run's folder, that of the images."""
    copy, images = tmp_path / "run", tmp_path / "images"
    shutil.copytree(run, copy)
    shutil.copytree(image_folder, images)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["path"] = str(images)
    (copy / "config.json").write_text(json.dumps(config))
    return copy, images


def test_eval_of_a_runs_own_images_is_refused_once_they_changed(moved, invoke, one_line, tmp_path):
    run, images = moved
    (images / "train" / "00.png").rename(images / "test" / "00.png")
    (images / "test" / "new.png").write_bytes((images / "test" / "00.png").read_bytes())
    result = invoke("eval", run)
    assert result.exit_code == 2
    line = one_line(result.stderr)
    assert "train: 0 added, 1 removed; test: 2 added, 0 removed" in line
    written = tmp_path / "measures.json"
    result = invoke("eval", run, "--data", images, "--split", "all", "--json", written)
    assert result.exit_code == 0, result.output
    measures = json.loads(written.read_text())
    assert (measures["n"], measures["trained_on"]) == (21, 15)


def test_eval_of_a_set_of_test_images_alone_measures_all_of_them(
    run, invoke, image_folder, tmp_path
):
    for number, path in enumerate(sorted((image_folder / "train").iterdir())):
        place = tmp_path / "set" / "test" / ("cats" if number < 6 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    written = tmp_path / "measures.json"
    arguments = ("eval", run, "--data", tmp_path / "set", "--json", written)
    result = invoke(*arguments)
    assert result.exit_code == 0
    measures = json.loads(written.read_text())
    assert (measures["n"], measures["trained_on"]) == (16, 0)
    cats, dogs = measures["by_source"]["cats"], measures["by_source"]["dogs"]
    assert (cats["n"], dogs["n"]) == (6, 10)
    assert (6 * cats["psnr"] + 10 * dogs["psnr"]) / 16 == pytest.approx(measures["psnr"])
    table = [line.split() for line in result.stdout.splitlines()[-3:]]
    assert table[0] == ["source", *cats]
    assert [line[0] for line in table[1:]] == ["cats", "dogs"]
    assert table[2][list(dogs).index("psnr") + 1] == f"{dogs['psnr']:.4f}"
    refused = invoke(*arguments, "--split", "train")
    assert "has no train images (folders test/ alone)" in refused.stderr


@pytest.mark.parametrize("size", [0, -8])
def test_eval_refuses_a_batch_of_nothing(run, invoke, size):
    result = invoke("eval", run, f"--batch-size={size}")
    assert result.exit_code == 2


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_eval_refuses_to_write_into_a_folder_that_is_not_there(run, invoke, tmp_path, option):
    result = invoke("eval", run, option, tmp_path / "nowhere" / "file")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_eval_refuses_to_write_over_a_folder(run, invoke, one_line, tmp_path, option):
    result = invoke("eval", run, option, tmp_path)
    assert result.exit_code == 2
    assert "is a folder. Give a file." in one_line(result.stderr)


def test_eval_without_weight_files_says_what_is_not_measured(evaluated):
    printed, measures, _ = evaluated
    assert measures["weights"] == {}
    assert not {"fid", "kid"} & set(measures)
    assert "fid, kid: they need --inception FILE" in printed
    assert "lpips: it needs --lpips FILE" in printed


def test_eval_measures_baselines(run, invoke, evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr("avq.evaluate.baselines.patch_kmeans.VIEWS", 32)
    written = tmp_path / "measures.json"
    result = invoke("eval", run, "--baselines", "--json", written)
    assert result.exit_code == 0, result.output
    measures = json.loads(written.read_text())
    baselines = measures.pop("baselines")
    assert measures == evaluated[1]
    assert {"patch_kmeans", "patch_kmeans_residual", "jpeg"} <= set(baselines)
    patches = baselines["patch_kmeans"]
    assert {"psnr", "ssim", "bits_per_pixel"} <= set(patches)
    assert patches["bits_per_pixel"] == measures["bits_per_pixel"]
    assert patches["model_psnr"] == pytest.approx(measures["psnr"], rel=1e-6)
    assert f"{patches['psnr']:.2f} dB." in result.stdout  # a model of two steps is behind


def test_eval_refuses_baselines_of_a_run_whose_images_are_gone(moved, invoke, one_line):
    run, images = moved
    images.rename(images.with_name("elsewhere"))
    result = invoke("eval", run, "--data", images.with_name("elsewhere"), "--baselines")
    assert result.exit_code == 2
    assert f"no such file or folder: '{images}'" in one_line(result.stderr)
    assert result.stdout == ""
