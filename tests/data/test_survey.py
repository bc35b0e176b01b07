"""`avq data`: counts, sizes, statistics, the sheet."""

import numpy as np
import pytest
from PIL import Image

from avq.data.settings import Data
from avq.data.survey import SHEET_COLUMNS, TILE, survey


def settings(path, size=8):
    return Data(path=str(path), image_size=size)


@pytest.fixture
def folder(tmp_path):
    """Ten training images of 10x20 to 19x20, two test images, one file of words."""
    for i in range(12):
        path = tmp_path / ("train" if i < 10 else "test") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (10 + i, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "train" / "words.png").write_bytes(b"words")
    return tmp_path


def test_every_image_is_counted_measured_or_rejected(folder):
    totals: list[int] = []
    done: list[int] = []
    result = survey(settings(folder), totals.append, done.append)
    assert (totals, sum(done)) == ([13], 13)
    assert result.counts == {"train": 10, "test": 2}
    assert result.sides["shorter"] == {"least": 10, "median": 15.5, "most": 20}
    assert result.sides["longer"] == {"least": 20, "median": 20, "most": 21}
    assert result.rejected == [
        {"name": "train/words.png", "reason": "5 bytes: no known image format"}
    ]


def test_statistics_are_those_of_the_training_squares(folder):
    squares = []
    for i in range(10):
        with Image.open(folder / "train" / f"{i:02d}.png") as image:
            side, left = image.height, (20 - image.height) // 2
            crop = image.crop((left, 0, left + side, side))
            squares.append(np.asarray(crop.resize((8, 8), Image.Resampling.LANCZOS)))
    pixels = np.stack(squares) / 127.5 - 1
    result = survey(settings(folder))
    np.testing.assert_allclose(result.pixel_mean, pixels.mean(), rtol=1e-9)
    np.testing.assert_allclose(result.pixel_variance, pixels.var(), rtol=1e-9)
    np.testing.assert_allclose(result.pixel_std, pixels.std(), rtol=1e-9)


def test_sheet_shows_training_images_then_test_images_and_white(folder):
    sheet = survey(settings(folder, TILE)).sheet
    assert sheet.shape == (2 * TILE, SHEET_COLUMNS * TILE, 3)
    tiles = sheet.reshape(2, TILE, SHEET_COLUMNS, TILE, 3).swapaxes(1, 2).reshape(20, TILE, TILE, 3)
    with Image.open(folder / "test" / "10.png") as image:
        expected = np.asarray(image.resize((TILE, TILE), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(tiles[10], expected)
    assert (tiles[12:] == 255).all()


@pytest.mark.parametrize(("train", "test"), [(50, 12), (12, 50), (40, 40), (59, 1)])
def test_sheet_shows_sixty_images_where_there_are_so_many(tmp_path, train, test):
    for i in range(train + test):
        path = tmp_path / ("train" if i < train else "test") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (0, 0, 4 * i % 256)).save(path)
    sheet = survey(settings(tmp_path)).sheet
    assert sheet.shape == (6 * TILE, SHEET_COLUMNS * TILE, 3)
    assert not (sheet == 255).all(axis=-1).any()


def test_set_of_twelve_bit_values_is_warned_of(tmp_path):
    for i in range(3):
        pixels = np.full((8, 8), 1000 * (i + 1), np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    result = survey(settings(tmp_path))
    assert "come out dark" in result.warning
    assert f"warning: {result.warning}" in result.as_text()


def test_text_and_json_say_the_same(folder):
    (folder / "a.CR2").touch()
    (folder / "b.heic").touch()
    result = survey(settings(folder))
    text = result.as_text()
    for part in (
        "10 train images",
        "2 test images",
        "split: folders train/ and test/",
        "not used: 1 .cr2 files, 1 .heic files",
        "shorter side: 10 to 20 pixels, median 15.5",
        f"variance {result.pixel_variance:.4f}",
        "1 unreadable",
        "train/words.png: 5 bytes: no known image format",
    ):
        assert part in text
    assert set(result.to_json()) == {
        "counts", "sides", "rejected", "pixel_mean", "pixel_std", "pixel_variance", "size",
        "split_rule", "unused", "warning",
    }  # fmt: skip
    assert result.to_json()["unused"] == {".cr2 files": 1, ".heic files": 1}
