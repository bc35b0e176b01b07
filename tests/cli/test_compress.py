"""`avq compress` and `avq decompress`: an image to a small file and back."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from avq.apply.codec import fitting
from avq.apply.codec.stored import codec_file
from avq.data.images import decode


@pytest.fixture(scope="module")
def folder(invoke, run, tmp_path_factory):
    """A run with a codec, `run/`, two images and their compressed files."""
    folder = tmp_path_factory.mktemp("compressed")
    shutil.copytree(run, folder / "run")
    rng = np.random.default_rng(0)
    for name, shape in {"a.jpg": (16, 16, 3), "b.png": (37, 9, 3)}.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "BATCH", 256)
        result = invoke("compress", folder / "a.jpg", "--model", folder / "run")
    assert result.exit_code == 0, result.stderr
    assert "codec.npz: fitted now, once" in result.stderr
    assert "codes without entropy coding: 6 bytes" in result.stdout
    return folder


def test_image_is_decompressed_to_its_reconstruction(invoke, folder, tokenizer):
    before = codec_file(folder / "run").read_bytes()
    result = invoke("compress", folder / "b.png", "--model", folder / "run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert codec_file(folder / "run").read_bytes() == before
    for name in ("a.jpg", "b.png"):
        file = (folder / name).with_suffix(".avq")
        out = folder / f"{name}.out.png"
        result = invoke("decompress", file, "-o", out, "--model", folder / "run")
        assert result.exit_code == 0, result.stderr
        (expected,) = tokenizer.reconstruct(folder / name)
        np.testing.assert_array_equal(decode(out.read_bytes()), expected)


@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_released_folder_reads_and_writes_the_files_of_its_run(invoke, folder, tmp_path, part):
    assert invoke("export", folder / "run", tmp_path / "released").exit_code == 0
    model = tmp_path / "released" / part
    result = invoke("compress", folder / "b.png", "-o", tmp_path / "b.avq", "--model", model)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "b.avq").read_bytes() == (folder / "b.avq").read_bytes()
    result = invoke("decompress", folder / "b.avq", "-o", tmp_path / "b.png", "--model", model)
    assert result.exit_code == 0, result.stderr
    assert "avq compress photo.jpg" in (tmp_path / "released" / "README.md").read_text()


def test_export_fits_the_codec_that_a_folder_cannot_have_later(
    invoke, one_line, run, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "BATCH", 256)
    shutil.copytree(run, tmp_path / "run")
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    assert "without codec" in invoke("export", tmp_path / "run", plain).stdout
    result = invoke("compress", folder / "a.jpg", "-o", tmp_path / "a.avq", "--model", plain)
    assert result.exit_code == 2
    assert "Export the run again with --codec" in one_line(result.stderr)
    assert "with codec" in invoke("export", tmp_path / "run", whole, "--codec").stdout
    for place in (whole, tmp_path / "run"):
        assert codec_file(place).read_bytes() == codec_file(folder / "run").read_bytes()


def test_default_name_replaces_no_image(invoke, folder, tmp_path):
    shutil.copy(folder / "a.avq", tmp_path / "a.avq")
    assert invoke("decompress", tmp_path / "a.avq", "--model", folder / "run").exit_code == 0
    before = (tmp_path / "a.png").read_bytes()
    result = invoke("decompress", tmp_path / "a.avq", "--model", folder / "run")
    assert result.exit_code == 2
    assert "a.png exists" in result.stderr
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compress {dir}/none.jpg -o {tmp}/x.avq --model {dir}/run", "none.jpg' cannot be read"),
        ("compress {dir}/a.avq -o {tmp}/x.avq --model {dir}/run", "is no image that can be read"),
        ("compress {dir}/a.jpg -o {tmp}/x.avq --model {tmp}", "is not a run"),
        ("compress {dir}/a.jpg -o {tmp}/no/x.avq --model {dir}/run", "there is no folder"),
        ("decompress {dir}/none.avq -o {tmp}/x.png --model {dir}/run", "cannot be read"),
        ("decompress {dir}/a.jpg -o {tmp}/x.png --model {dir}/run", "is no file of avq compress"),
        ("decompress {dir}/a.avq -o {tmp}/x.png --model {plain}", "has no codec.npz"),
        ("decompress {dir}/a.avq -o {tmp}/x.jpg --model {dir}/run", "is no .png file"),
        ("decompress {dir}/a.avq -o {tmp} --model {dir}/run", "is no .png file"),
        ("compress {dir}/b.png -o {tmp}/x.avq --prior {prior}", "the prior models images of 16x16"),
        ("compress {dir}/a.jpg -o {tmp}/x.avq --prior {dir}/run", "is not the run of a prior"),
        ("compress {dir}/a.jpg -o {tmp}/x.avq --prior {prior} --step 2", "with the newest step"),
        ("decompress {dir}/a.avq -o {tmp}/x.png --prior {prior}", "compressed without --prior"),
    ],
)
def test_what_cannot_be_done_gets_one_line(
    invoke, one_line, run, prior_run, folder, tmp_path, arguments, message
):
    places = {"dir": folder, "tmp": tmp_path, "plain": run, "prior": prior_run}
    result = invoke(*arguments.format(**places).split())
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert not list(tmp_path.iterdir())


def test_file_by_a_prior_is_decompressed_in_a_process_of_two_devices(
    invoke, run, prior_run, folder, tokenizer, tmp_path
):
    file, out = tmp_path / "a.avq", tmp_path / "a.png"
    result = invoke("compress", folder / "a.jpg", "-o", file, "--prior", prior_run)
    assert result.exit_code == 0, result.stderr
    command = [sys.executable, "-m", "avq.cli", "decompress", str(file), "--prior", str(prior_run)]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([*command, "--model", str(run)], env=environment, check=True)
    (expected,) = tokenizer.reconstruct(folder / "a.jpg")
    difference = decode(out.read_bytes()).astype(int) - expected
    assert np.abs(difference).max() <= 1  # codes are the same; XLA compiled another program


def test_codec_of_another_checkpoint_is_not_replaced(invoke, one_line, folder, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(folder / "run", other)
    with np.load(codec_file(other)) as arrays:
        content = {**dict(arrays), "model": np.str_("0" * 16)}
    np.savez(codec_file(other), **content)
    before = codec_file(other).read_bytes()
    result = invoke("export", other, tmp_path / "released")
    assert "no codec in the folder" in result.stderr
    assert not codec_file(tmp_path / "released").exists()
    for command in ("compress", "decompress"):
        source = folder / ("a.jpg" if command == "compress" else "a.avq")
        result = invoke(command, source, "-o", tmp_path / "x.png", "--model", other)
        assert result.exit_code == 2
        assert "belongs to model 0000000000000000" in one_line(result.stderr)
    assert codec_file(other).read_bytes() == before


def test_codec_needs_the_training_images_once(invoke, one_line, run, folder, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    config = moved / "config.json"
    path = tmp_path / "gone"
    config.write_text(config.read_text().replace('"path": "', f'"path": "{path}'))
    result = invoke("compress", folder / "a.jpg", "-o", tmp_path / "x.avq", "--model", moved)
    assert result.exit_code == 2
    line = one_line(result.stderr.splitlines()[-1])
    assert "cannot be fitted without the run's training images" in line
    assert not (tmp_path / "x.avq").exists()
    assert not codec_file(moved).exists()
