"""`avq prepare`: what it prints, what it refuses, and that a killed one continues."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from avq.data.sources import open_source


@pytest.fixture
def prepared(invoke, image_folder, tmp_path):
    result = invoke("prepare", image_folder, tmp_path / "set", "--size", 16, "--workers", 1)
    assert result.exit_code == 0, result.output
    return result, tmp_path / "set"


def test_prepare_prints_counts_and_how_to_train_on_it(prepared):
    result, target = prepared
    about = json.loads((target / "dataset.json").read_text())
    assert about["counts"] == {"train": 16, "test": 4}
    assert {"pixel_mean", "pixel_std", "pixel_variance", "rejected"} <= about.keys()
    assert (about["size"], about["seed"]) == (16, 1967)
    assert "16 training and 4 test images of 16 pixels, 0 left out" in result.output
    assert f"--config.data.path={target}" in result.output
    assert "split: folders train/ and test/" in result.output
    assert about["split_rule"] == "folders train/ and test/"


def test_prepare_again_does_nothing_and_prints_the_same(prepared, invoke, image_folder):
    result, target = prepared
    again = invoke("prepare", image_folder, target, "--size", 16)
    assert again.output == result.output


def test_prepare_names_what_it_left_out(invoke, image_folder, tmp_path):
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


def test_prepare_takes_the_split_and_the_white_that_it_is_told(invoke, one_line, tmp_path):
    for i, name in enumerate(["train/a.png", "train/b.png", "c.png", "d.png"]):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 4095 if i < 2 else 0, np.uint16)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    arguments = ("prepare", tmp_path / "in", tmp_path / "set", "--size", 8, "--workers", 1)
    assert "names look like a split (train/)" in one_line(invoke(*arguments).stderr)
    more = ("--random-split", "--white-level", 4095)
    assert invoke(*arguments, *more, "--split", 0.5).exit_code == 0
    source = open_source(str(tmp_path / "set"))
    assert sorted(int(source[i].mean()) for i in range(4)) == [0, 0, 255, 255]


def test_set_of_test_images_alone_is_refused_before_it_is_read(invoke, one_line, tmp_path):
    (tmp_path / "in" / "test").mkdir(parents=True)
    (tmp_path / "in" / "test" / "a.png").touch()
    result = invoke("prepare", tmp_path / "in", tmp_path / "set", "--workers", 1)
    assert "has no images to train on (folders test/ alone)" in one_line(result.stderr)
    assert not (tmp_path / "set").exists()


def test_prepare_says_what_it_did_not_use(invoke, image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "in")
    (tmp_path / "in" / "a.CR2").touch()
    (tmp_path / "in" / "logo.png").touch()
    arguments = ("prepare", tmp_path / "in", tmp_path / "set", "--size", 8, "--workers", 1)
    assert "not used: 1 outside of these, 1 .cr2 files" in invoke(*arguments).stderr


def test_missing_images_are_refused_in_one_line(invoke, one_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("prepare", "nowhere", "set")
    assert result.exit_code == 2
    assert "no such file or folder: 'nowhere'. Give a folder" in one_line(result.output)
    assert not any(tmp_path.iterdir())


def test_workers_say_what_is_left_to_do_and_the_finish_prints_the_whole(
    prepared, invoke, one_line, image_folder, tmp_path
):
    whole, target = prepared
    arguments = ("prepare", image_folder, tmp_path / "shared", "--size", 16, "--workers", 1)
    missing = invoke(*arguments, "--finish")
    assert "2 of 2 shards are missing: train-00000" in one_line(missing.stderr)
    for worker in ("1/2", "0/2", "1/2"):
        result = invoke(*arguments, "--worker", worker)
        assert result.exit_code == 0, result.output
        assert f"worker {worker} is done; after all are, run this with --finish" in result.stdout
    ended = invoke(*arguments, "--finish")
    assert ended.stdout.replace("shared", "set") == whole.stdout
    for name in ("dataset.json", "train-00000-of-00001.array_record"):
        assert (tmp_path / "shared" / name).read_bytes() == (target / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--worker", "3/3"), "worker 3 is none of 3"),
        (("--worker", "three"), "is not I/N"),
        (("--worker", "0/3", "--finish"), "--worker and --finish are for calls of their own"),
        (("--finish", "--ray", 3), "--finish and --ray are for calls of their own"),
    ],
)
@pytest.mark.parametrize("verb", ["prepare", "tokenize"])
def test_worker_that_there_is_not_is_refused_before_anything_is_read(
    invoke, one_line, tmp_path, verb, flags, message
):
    places = ("nowhere", tmp_path / "set") if verb == "prepare" else ("run", "in", tmp_path / "out")
    result = invoke(verb, *places, *flags)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert not any(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from avq.data import prepare

prepare.IMAGES_PER_SHARD = 4
done = []

def on_images(count):
    done.append(count)
    if len(done) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

prepare.prepare(sys.argv[1], Path(sys.argv[2]), size=8, workers=2, on_images=on_images)
"""


def test_killed_prepare_continues_to_the_bytes_of_an_undisturbed_one(image_folder, tmp_path):
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
