"""`avq data`: figures printed and written, the contact sheet, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_data_prints_and_writes_the_same_figures(invoke, image_folder, tmp_path):
    file, sheet = tmp_path / "data.json", tmp_path / "sheet.png"
    result = invoke("data", image_folder, "--size", 16, "--json", file, "--sheet", sheet)
    assert result.exit_code == 0, result.output
    figures = json.loads(file.read_text())
    assert figures["counts"] == {"train": 16, "test": 4}
    assert f"variance {figures['pixel_variance']:.4f}" in result.output
    assert "0 unreadable" in result.output
    with Image.open(sheet) as image:
        assert image.size == (960, 192)
    assert {path.name for path in tmp_path.iterdir()} == {"data.json", "sheet.png"}


def test_data_refuses_to_write_where_there_is_no_folder(invoke, image_folder, tmp_path):
    result = invoke("data", image_folder, "--sheet", tmp_path / "no" / "sheet.png")
    assert result.exit_code == 2
    assert "there is no folder" in result.output


@pytest.mark.parametrize("option", ["--json", "--sheet"])
def test_file_that_cannot_be_written_is_refused_before_any_work(
    invoke, one_line, image_folder, tmp_path, monkeypatch, option
):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # a test that runs as root may write everything
    result = invoke("data", image_folder, option, tmp_path / "file")
    assert result.exit_code == 2
    assert "file cannot be written (Permission denied)" in one_line(result.stderr)
    assert result.stdout == ""


def test_figures_are_kept_when_writing_new_ones_fails(invoke, image_folder, tmp_path, monkeypatch):
    file = tmp_path / "data.json"
    file.write_text("before")
    monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)
    assert invoke("data", image_folder, "--json", file).exit_code != 0
    assert file.read_text() == "before"


def test_options_of_data_are_those_of_a_config(invoke, one_line, tmp_path):
    for i, name in enumerate(["train/a.png", "b.png", "c.png", "d.png", "e.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 1000 * i, np.uint16)).save(tmp_path / name)
    result = invoke("data", tmp_path)
    assert result.exit_code == 2
    assert "--random-split" in one_line(result.stderr)
    result = invoke("data", tmp_path, "--random-split")
    assert "split: hash of names, 80 % / 20 %" in result.stdout
    assert "come out dark" in result.stdout
    assert "dark" not in invoke("data", tmp_path, "--random-split", "--white-level", 4095).stdout


def test_missing_images_are_refused_in_one_line(invoke, one_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("data", "nowhere")
    assert result.exit_code == 2
    assert "no such file or folder: 'nowhere'. Give a folder" in one_line(result.output)
    assert not any(tmp_path.iterdir())
