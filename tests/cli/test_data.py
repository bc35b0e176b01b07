"""`avq data`: figures printed and written, the contact sheet, refusals."""

import json

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


def test_data_refuses_to_write_where_there_is_no_folder(invoke, image_folder, tmp_path):
    result = invoke("data", image_folder, "--sheet", tmp_path / "no" / "sheet.png")
    assert result.exit_code == 2
    assert "there is no folder" in result.output


def test_missing_images_are_refused_in_one_line(invoke, one_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("data", "nowhere")
    assert result.exit_code == 2
    assert "no such file or folder: 'nowhere'. Give a folder" in one_line(result.output)
    assert not any(tmp_path.iterdir())
