"""`avq prepare` and `avq data`, from the command line to training on what they made."""

import json
import signal
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from avq import cli


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture
def prepared(image_folder, tmp_path):
    result = invoke("prepare", image_folder, tmp_path / "set", "--size", 16, "--workers", 1)
    assert result.exit_code == 0, result.output
    return result, tmp_path / "set"


def test_prepare_says_what_it_made_and_how_to_train_on_it(prepared):
    result, target = prepared
    about = json.loads((target / "dataset.json").read_text())
    assert about["counts"] == {"train": 16, "test": 4}
    assert {"pixel_mean", "pixel_std", "pixel_variance", "rejected"} <= about.keys()
    assert (about["size"], about["seed"]) == (16, 1967)
    assert "16 training and 4 test images of 16 pixels, 0 left out" in result.output
    assert f"--config.data.path={target}" in result.output


def test_prepare_again_does_nothing_and_says_the_same(prepared, image_folder):
    result, target = prepared
    again = invoke("prepare", image_folder, target, "--size", 16)
    assert again.output == result.output


def test_prepare_names_what_it_left_out(image_folder, tmp_path):
    (tmp_path / "images").mkdir()
    for path in image_folder.rglob("*.png"):
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "images" / "words.jpg").write_bytes(b"words")
    arguments = ("prepare", tmp_path / "images", tmp_path / "set", "--size", 16, "--workers", 1)
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert "1 of 21 images are unreadable" in refused.output
    result = invoke(*arguments, "--max-rejected", 0.1)
    assert result.exit_code == 0
    assert "left out words.jpg: 5 bytes: no known image format" in result.output


@pytest.mark.parametrize("arguments", [("prepare", "nowhere", "set"), ("data", "nowhere")])
def test_missing_images_are_one_line(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert "no such file or folder: 'nowhere'. Give a folder" in result.output
    assert result.output.count("\n") == 1
    assert not any(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from avq.data import prepare

prepare.IMAGES_PER_SHARD = 4
done = []

def each(count):
    done.append(count)
    if len(done) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

prepare.prepare(sys.argv[1], Path(sys.argv[2]), size=8, workers=2, each=each)
"""


def test_killed_prepare_goes_on_to_the_bytes_of_an_undisturbed_one(image_folder, tmp_path):
    def start(name, images):
        arguments = [image_folder, tmp_path / name, images]
        command = [sys.executable, "-c", KILLED, *map(str, arguments)]
        # Ends only when the workers, which hold the pipe too, are gone as well.
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=300).returncode

    assert start("killed", 10) == -signal.SIGKILL
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {
        "train-00000-of-00004.array_record", "train-00001-of-00004.array_record", "unfinished"
    }  # fmt: skip
    assert start("killed", 1000) == start("whole", 1000) == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}


def test_data_prints_and_writes_what_it_found(image_folder, tmp_path):
    file, sheet = tmp_path / "data.json", tmp_path / "sheet.png"
    result = invoke("data", image_folder, "--size", 16, "--json", file, "--sheet", sheet)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["counts"] == {"train": 16, "test": 4}
    assert f"variance {found['pixel_variance']:.4f}" in result.output
    assert "0 unreadable" in result.output
    with Image.open(sheet) as image:
        assert image.size == (960, 192)


def test_data_refuses_to_write_where_there_is_no_folder(image_folder, tmp_path):
    result = invoke("data", image_folder, "--sheet", tmp_path / "no" / "sheet.png")
    assert result.exit_code == 2
    assert "there is no folder" in result.output
