"""Folders, zips and embedded photographs: which images there are and how they are split."""

import io
import zipfile

import chex
import numpy as np
import pytest
import skimage.data
from PIL import Image

from avq.data import sources
from avq.data.images import UnreadableImage
from avq.data.sources import Photographs, open_files, split_files
from avq.errors import InputError


def png(value):
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 255 - value)).save(file, "png")
    return file.getvalue()


def write_folder(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


@pytest.fixture(params=["folder", "zip"])
def write(request, tmp_path):
    """Writes files by name, as a folder or as a zip, and returns the path."""
    if request.param == "folder":
        return lambda files: write_folder(tmp_path / "images", files)
    return lambda files: write_zip(tmp_path / "images.zip", files)


def named(names):
    return {name: png(i) for i, name in enumerate(names)}


def test_folder_and_zip_give_the_same_names_and_pixels(tmp_path):
    files = named(["b/2.png", "a.PNG", "b/c/1.png"])
    folder = open_files(write_folder(tmp_path / "images", files))
    archive = open_files(write_zip(tmp_path / "images.zip", files))
    assert folder.names == archive.names == sorted(files)
    assert [folder.name(i) for i in range(len(folder))] == folder.names
    for i, name in enumerate(folder.names):
        value = list(files).index(name)
        expected = np.broadcast_to(np.array([value, 0, 255 - value], np.uint8), (2, 3, 3))
        chex.assert_trees_all_equal(folder[i], archive[i], expected)


def test_hidden_files_resource_forks_and_other_files_are_left_out(write):
    files = named(["a.png", ".b.png", ".git/c.png", "__MACOSX/a.png", "x/__MACOSX/._a.png"])
    path = write({**files, "notes.txt": b"words", "x/png": b"no suffix"})
    assert open_files(path).names == ["a.png"]


@pytest.mark.parametrize("top", ["", "faces/", "faces/v1/"])
def test_own_train_and_test_folders_are_the_split(write, top):
    names = [f"{top}{name}" for name in ("train/a.png", "train/x/b.png", "test/c.png")]
    parts = split_files(open_files(write(named(names))), 0.5, 0)
    assert parts["train"].names == names[:2]
    assert parts["test"].names == names[2:]
    np.testing.assert_array_equal(parts["test"][0][0, 0], [2, 0, 253])


def test_folder_called_train_alone_is_split_at_random(write):
    files = open_files(write(named([f"train/{i}.png" for i in range(5)])))
    parts = split_files(files, 0.8, 0)
    assert (len(parts["train"]), len(parts["test"])) == (4, 1)


def test_split_by_seed_is_disjoint_complete_and_deterministic(write):
    files = open_files(write(named([f"{i:02d}.png" for i in range(20)])))
    parts, again = split_files(files, 0.8, 1967), split_files(files, 0.8, 1967)
    other = split_files(files, 0.8, 1968)
    assert [len(parts["train"]), len(parts["test"])] == [16, 4]
    assert sorted(parts["train"].names + parts["test"].names) == files.names
    assert parts["test"].names == again["test"].names
    assert parts["train"].names == again["train"].names
    assert parts["test"].names != other["test"].names
    for part in parts.values():
        for i, name in enumerate(part.names):
            assert part[i][0, 0, 0] == int(name[:2])


def test_damaged_and_missing_members_are_unreadable(tmp_path):
    folder = open_files(write_folder(tmp_path / "images", named(["a.png"])))
    (tmp_path / "images" / "a.png").unlink()
    path = write_zip(tmp_path / "images.zip", named(["a.png"]))
    content = bytearray((tmp_path / "images.zip").read_bytes())
    at = content.index(b"IDAT")
    content[at + 6] ^= 0xFF  # the checksum of the member no longer holds
    (tmp_path / "images.zip").write_bytes(content)
    for files in (folder, open_files(path)):
        with pytest.raises(UnreadableImage, match=r"No such file|Bad CRC-32"):
            files[0]


def test_huge_file_is_refused_without_reading_it(write, monkeypatch):
    files = open_files(write(named(["a.png"])))
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 10)
    with pytest.raises(UnreadableImage, match="larger than"):
        files[0]


def missing(folder):
    return folder / "nowhere"


def no_zip(folder):
    (folder / "a.zip").write_bytes(b"these are words")
    return folder / "a.zip"


def no_images(folder):
    (folder / "notes.txt").write_text("words")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "no such file or folder: '.*nowhere'"),
        (no_zip, r"'.*a\.zip' is no readable \.zip"),
        (no_images, r"no images under '.*' \(looked for \.jpg"),
    ],
)
def test_path_without_images_is_refused_in_one_line_that_says_what_to_do(tmp_path, make, message):
    with pytest.raises(InputError, match=f"data.path: {message}") as error:
        open_files(str(make(tmp_path)))
    assert str(error.value).endswith(
        "Give a folder or .zip of images, or use :tiny, which needs none."
    )
    assert "\n" not in str(error.value)


def test_test_photographs_are_other_ones_than_the_training_ones():
    train, test = Photographs("train", 16), Photographs("test", 16)
    trained_on = {train.name(i) for i in range(len(train))}
    tested_on = {test.name(i).split("#")[0] for i in range(len(test))}
    assert len(tested_on) == 4
    assert not trained_on & tested_on
    assert len({test.name(i) for i in range(len(test))}) == len(test)
    assert train.augment
    assert not test.augment


def test_training_photographs_are_whole():
    train = Photographs("train", 16)
    images = {train.name(i): train[i] for i in range(len(train))}
    np.testing.assert_array_equal(images["coffee.png"], skimage.data.coffee())
    np.testing.assert_array_equal(images["brick.png"][..., 1], skimage.data.brick())


def test_held_out_crops_are_512_deterministic_and_different():
    test, again = Photographs("test", 16), Photographs("test", 16)
    crops = [test[i] for i in range(len(test))]
    assert len(crops) == 512
    chex.assert_shape(crops, (16, 16, 3))
    chex.assert_trees_all_equal(crops, [again[i] for i in range(len(again))])
    assert len({crop.tobytes() for crop in crops}) > 490  # some are plain white or black
