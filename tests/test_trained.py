"""What is done with a run once it is trained: loading, encoding, measuring; and the commands."""

import json
import shutil
import zipfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

import avq
from avq import cli, config, main
from avq.checkpoint import load_model
from avq.errors import InputError
from avq.train import loop

SIZE = 16


@pytest.fixture(scope="module")
def run(smoke, tmp_path_factory):
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert loop.train(config.load([*smoke, "--config.train.steps=2"]), str(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def tokenizer(run):
    return avq.load(run)


@pytest.fixture(scope="module")
def invoke():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli.app, [str(a) for a in arguments])


def squares(folder):
    """The images of a folder as Pillow cuts and shrinks them."""
    rows = []
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            square = image.crop((0, 2, 20, 22)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        rows.append(np.asarray(square))
    return np.stack(rows)


@pytest.fixture(scope="module")
def images(image_folder):
    """The test images of the run, 0..255."""
    return squares(image_folder / "test")


# Python


def test_bytes_and_floats_are_encoded_alike_finest_level_first(tokenizer, images):
    codes = tokenizer.encode(images)
    floats = images.astype(np.float32) / 127.5 - 1
    assert [grid.shape for grid in codes] == [(4, 4, 4), (4, 2, 2)]
    assert all(grid.dtype == jnp.int32 for grid in codes)
    assert all(int(grid.min()) >= 0 and int(grid.max()) < 8 for grid in codes)
    chex.assert_trees_all_equal(codes, tokenizer.encode(floats))
    chex.assert_trees_all_equal(codes, tokenizer.encode(jnp.asarray(images)))


def test_each_image_is_encoded_by_itself(tokenizer, images):
    codes = tokenizer.encode(images)
    backwards = tokenizer.encode(images[::-1])
    chex.assert_trees_all_equal(codes, tuple(grid[::-1] for grid in backwards))


def test_reconstruction_is_the_decoded_codes(tokenizer, images):
    codes = tokenizer.encode(images)
    decoded = tokenizer.decode(codes)
    chex.assert_shape(decoded, images.shape)
    assert decoded.dtype == jnp.uint8
    chex.assert_trees_all_equal(decoded, tokenizer.reconstruct(images))
    chex.assert_trees_all_equal(decoded, tokenizer.decode([np.asarray(c).tolist() for c in codes]))


def test_decoding_is_the_models_forward_pass(tokenizer, images):
    trained = tokenizer.trained
    variables = jax.tree.map(jnp.asarray, trained.variables)
    out = trained.model.apply(variables, jnp.asarray(images / 127.5 - 1, jnp.float32))
    expected = np.clip(np.round((np.asarray(out.images, np.float64) + 1) * 127.5), 0, 255)
    difference = np.abs(np.asarray(tokenizer.reconstruct(images), np.float64) - expected)
    assert difference.max() <= 1  # rounding at a half
    assert np.mean(difference > 0) < 0.01


def test_larger_images_that_the_stride_divides_are_encoded(tokenizer):
    codes = tokenizer.encode(np.zeros((1, 24, 32, 3), np.uint8))
    assert [grid.shape for grid in codes] == [(1, 6, 8), (1, 3, 4)]
    chex.assert_shape(tokenizer.decode(codes), (1, 24, 32, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((16, 16, 3), np.uint8), r"\(16, 16, 3\); give \[b, h, w, 3\]"),
        (np.zeros((1, 16, 16, 1), np.uint8), r"\(1, 16, 16, 1\)"),
        (np.zeros((1, 3, 16, 16), np.uint8), r"\(1, 3, 16, 16\)"),
        (np.zeros((1, 12, 16, 3), np.uint8), r"multiples of 8"),
        (np.zeros((1, 16, 20, 3), np.uint8), r"multiples of 8"),
        (np.zeros((1, 16, 16, 3), np.int32), r"int32; give uint8, or floats in \[-1, 1\]"),
        (np.zeros((1, 16, 16, 3), bool), r"bool; give uint8"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(tokenizer, wrong, message):
    with pytest.raises(InputError, match=message):
        tokenizer.encode(wrong)


def grids(*shapes, value=0):
    return [np.full(shape, value, np.int32) for shape in shapes]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], r"0 grids of codes given; this model has 2"),
        (grids((1, 4, 4)), r"1 grids of codes given; this model has 2"),
        (grids((1, 4, 4), (1, 2, 2), (1, 1, 1)), r"3 grids of codes"),
        (grids((1, 4, 4), (1, 4, 4)), r"level 2 are \(1, 4, 4\), not \(1, 2, 2\)"),
        (grids((1, 2, 2), (1, 4, 4)), r"level 2 are \(1, 4, 4\), not \(1, 1, 1\)"),
        (grids((2, 4, 4), (1, 2, 2)), r"level 2 are \(1, 2, 2\), not \(2, 2, 2\)"),
        (grids((4, 4), (2, 2)), r"not grids \[b, h, w\] of integers"),
        (grids((1, 4, 4), (1, 2, 2), value=8), r"level 1 are not all in 0\.\.7"),
        (grids((1, 4, 4), (1, 2, 2), value=-1), r"level 1 are not all in 0\.\.7"),
        ([*grids((1, 4, 4)), *grids((1, 2, 2), value=8)], r"level 2 are not all in 0\.\.7"),
    ],
)
def test_codes_that_the_model_does_not_have_are_refused(tokenizer, codes, message):
    with pytest.raises(InputError, match=message):
        tokenizer.decode(codes)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a run: no config\.json in it"):
        avq.load(tmp_path)


def test_run_without_a_checkpoint_is_refused(run, tmp_path):
    for name in ("config.json", "dataset.json"):
        shutil.copy(run / name, tmp_path)
    with pytest.raises(InputError, match="has no checkpoint yet"):
        avq.load(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "dataset.json"}


def test_step_without_a_checkpoint_is_refused_by_its_number(run):
    with pytest.raises(InputError, match=r"has no checkpoint of step 1\. There are: 2\."):
        avq.load(run, step=1)


def test_named_step_is_loaded(run, tokenizer):
    again = avq.load(run, step=2)
    assert again.trained.step == tokenizer.trained.step == 2
    chex.assert_trees_all_equal(again.trained.variables, tokenizer.trained.variables)


def test_checkpoint_is_a_tree_of_named_arrays_for_orbax_alone(run):
    folder = (run / "checkpoints" / "2").resolve()
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(folder / "state").item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(folder / "state", restore_args=as_numpy)
    assert set(state) == {"step", "vqvae", "discriminator", "ema", "rng", "skipped"}
    assert int(state["step"]) == 2
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
    averaged = load_model(run).variables
    chex.assert_trees_all_equal(averaged["params"], state["ema"]["params"])
    chex.assert_trees_all_equal(averaged["batch_stats"], state["ema"]["batch_stats"])
    chex.assert_trees_all_equal(averaged["codebook"], state["vqvae"]["model_state"]["codebook"])
    trained = jax.tree.leaves(state["vqvae"]["params"])
    assert any(map(np.any, map(np.not_equal, trained, jax.tree.leaves(averaged["params"]))))


# avq eval


@pytest.fixture(scope="module")
def evaluated(run, invoke, tmp_path_factory):
    """What `avq eval` printed, its JSON and its page."""
    folder = tmp_path_factory.mktemp("evaluated")
    measures, page = folder / "measures.json", folder / "page.html"
    result = invoke("eval", run, "--json", measures, "--report", page)
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(measures.read_text()), page.read_text()


def test_eval_writes_every_key_of_the_contract(evaluated):
    _, measures, _ = evaluated
    keys = "n mae mae_over_std mae_over_var psnr ssim active_codes perplexity usage bits_per_pixel"
    assert set(keys.split()) <= set(measures)
    assert measures["bits_per_pixel"] == pytest.approx((16 + 4) * 3 / SIZE**2)
    assert (measures["step"], measures["split"]) == (2, "test")


def test_eval_equals_an_evaluation_by_other_means(evaluated, tokenizer, images, image_folder):
    _, measures, _ = evaluated
    made = np.asarray(tokenizer.reconstruct(images)) / 127.5 - 1
    true = images / 127.5 - 1
    pixels = squares(image_folder / "train") / 127.5 - 1
    assert measures["n"] == 4
    mae = np.abs(made - true).mean()
    assert measures["mae"] == pytest.approx(mae, abs=1e-3)
    assert measures["mae_over_std"] == pytest.approx(measures["mae"] / pixels.std(), rel=1e-4)
    assert measures["mae_over_var"] == pytest.approx(measures["mae"] / pixels.var(), rel=1e-4)
    pairs = list(zip(true, made, strict=True))
    psnr = np.mean([peak_signal_noise_ratio(*pair, data_range=2) for pair in pairs])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [structural_similarity(*p, data_range=2, channel_axis=-1, **options) for p in pairs]
    assert measures["psnr"] == pytest.approx(psnr, abs=0.02)
    assert measures["ssim"] == pytest.approx(np.mean(ssim), abs=2e-3)


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
    for name in measures:
        assert name in printed
    assert f"{measures['psnr']:.4f}" in printed
    assert "report: " in printed
    assert "page.html" in printed


def test_report_of_eval_is_a_page_about_the_run(evaluated, run):
    _, measures, page = evaluated
    assert page.startswith("<!doctype html>")
    assert str(run) in page
    assert f"{measures['psnr']:.4f}" in page
    assert "data:image/png;base64," in page


def test_eval_of_all_images_of_another_folder(run, invoke, tokenizer, image_folder, tmp_path):
    place = image_folder / "train"
    written = tmp_path / "measures.json"
    result = invoke(
        "eval", run, "--data", place, "--split", "all", "--batch-size", 8, "--json", written
    )
    assert result.exit_code == 0, result.output
    measures, images = json.loads(written.read_text()), squares(place)
    mae = np.abs(np.asarray(tokenizer.reconstruct(images)) / 127.5 - images / 127.5).mean()
    assert measures["n"] == 16
    assert measures["mae"] == pytest.approx(mae, abs=1e-3)
    assert measures["data"] == str(place)


def test_eval_of_the_training_images_of_a_zip(run, invoke, tokenizer, image_folder, tmp_path):
    place, written = tmp_path / "images.zip", tmp_path / "measures.json"
    kept = [*sorted(image_folder.glob("train/*.png"))[:3], *image_folder.glob("test/*.png")]
    with zipfile.ZipFile(place, "w") as archive:
        for path in kept:
            archive.write(path, path.relative_to(image_folder))
    result = invoke("eval", run, "--data", place, "--split", "train", "--json", written)
    assert result.exit_code == 0, result.output
    measures, images = json.loads(written.read_text()), squares(image_folder / "train")[:3]
    mae = np.abs(np.asarray(tokenizer.reconstruct(images)) / 127.5 - images / 127.5).mean()
    assert (measures["n"], measures["split"]) == (3, "train")
    assert measures["mae"] == pytest.approx(mae, abs=1e-3)


def one_line(text):
    """The only line of an error message."""
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "validation"], "--split: 'validation' is not one of train, test, all."),
        (["--split", "all"], "--split all goes with --data."),
        (["--data", "/no/such/place"], "no such file or folder: '/no/such/place'"),
    ],
)
def test_eval_refuses_bad_input_in_one_line(run, invoke, arguments, message):
    result = invoke("eval", run, *arguments)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert result.stdout == ""


def test_eval_refuses_a_folder_that_is_no_run_in_one_line(invoke, tmp_path):
    result = invoke("eval", tmp_path)
    assert result.exit_code == 2
    assert "is not a run" in one_line(result.stderr)


def test_eval_of_images_of_which_none_is_readable_is_refused_in_one_line(run, invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    result = invoke("eval", run, "--data", tmp_path, "--split", "all")
    assert result.exit_code == 2
    assert "1 of 1 images are unreadable" in one_line(result.stderr)


@pytest.mark.parametrize("size", [0, -8])
def test_eval_refuses_a_batch_of_nothing(run, invoke, size):
    result = invoke("eval", run, f"--batch-size={size}")
    assert result.exit_code == 2


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_eval_refuses_to_write_into_a_folder_that_is_not_there(run, invoke, tmp_path, option):
    result = invoke("eval", run, option, tmp_path / "nowhere" / "file")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr


# avq describe, avq --version, python -m avq.main


def test_describe_prints_json(invoke, smoke):
    result = invoke("describe", *smoke, "--json")
    assert result.exit_code == 0, result.output
    described = json.loads(result.stdout)
    assert described["tokens"] == [16, 4]
    assert {"total", "params", "batch_stats"} <= set(described["vqvae"])
    assert described["discriminator"]["total"] > 0
    assert all({"name", "output", "total"} <= set(row) for row in described["modules"])


def test_describe_prints_a_table(invoke, smoke):
    result = invoke("describe", *smoke)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("module")
    assert "16 + 4 per image" in result.stdout


def test_describe_refuses_a_wrong_key_in_one_line(invoke):
    result = invoke("describe", "--config=configs/ah_vqvae.py", "--config.model.kodes=3")
    assert result.exit_code == 2
    assert "codes" in one_line(result.stderr)


def test_version_is_printed(invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == avq.__version__


@pytest.fixture
def start(monkeypatch):
    """`avq.main.main`, leaving the cache of compiled programs where the tests have it."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    return main.main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/ah_vqvae.py:tiny"], "--workdir is not given"),
        (["--workdir={run}"], "--config"),
        (["--workdir={run}", "--config=configs/none.py"], "no such file: 'configs/none.py'"),
        (["--workdir={run}", "--config=configs/ah_vqvae.py:huge"], "there are: paper, tiny"),
        (["--workdir={run}", "--config=configs/ah_vqvae.py"], "add :tiny to the config"),
    ],
)
def test_training_refuses_bad_input_in_one_line(start, capsys, tmp_path, arguments, message):
    folder = tmp_path / "run"
    extra = "--config.parallel.devices=1"  # 10 images a batch do not go on 8
    given = [a.format(run=folder) for a in arguments]
    assert start([*given, extra] if len(given) == 2 else given) == 2
    said = capsys.readouterr()
    assert message in one_line(said.err)
    assert said.out == ""
    assert not folder.exists()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["--workdir=x", "--help"]])
def test_training_prints_its_usage(start, capsys, arguments):
    assert start(arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: python -m avq.main --config=")
    assert said.err == ""
