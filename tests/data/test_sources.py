"""Folders, zips and embedded photographs: which images there are and how they are split."""

import io
import os
import pickle
import warnings
import zipfile

import chex
import numpy as np
import pytest
import skimage.data
from PIL import Image

from avq.data.images import UnreadableImage
from avq.data.settings import Data
from avq.data.sources import Photographs, base, open_source
from avq.data.sources.files import Files
from avq.data.split import open_splits
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


def names_of(source):
    return [source.name(i) for i in range(len(source))]


def named(names):
    return {name: png(i) for i, name in enumerate(names)}


def test_folder_and_zip_give_the_same_names_and_pixels(tmp_path):
    files = named(["b/2.png", "a.PNG", "b/c/1.png"])
    folder = open_source(write_folder(tmp_path / "images", files))
    archive = open_source(write_zip(tmp_path / "images.zip", files))
    assert names_of(folder) == names_of(archive) == sorted(files)
    for i, name in enumerate(names_of(folder)):
        value = list(files).index(name)
        expected = np.broadcast_to(np.array([value, 0, 255 - value], np.uint8), (2, 3, 3))
        chex.assert_trees_all_equal(folder[i], archive[i], expected)


def test_hidden_files_resource_forks_and_other_files_are_left_out(write):
    files = named(["a.png", ".b.png", ".git/c.png", "__MACOSX/a.png", "x/__MACOSX/._a.png"])
    path = write({**files, "notes.txt": b"words", "x/png": b"no suffix"})
    source = open_source(path)
    assert names_of(source) == ["a.png"]
    assert isinstance(source, Files)
    assert source.others == {".txt": 1, "": 1}


def test_symbolic_links_are_followed_and_loops_are_not_entered_again(tmp_path):
    write_folder(tmp_path / "far", named(["a.png", "b/c.png"]))
    images = tmp_path / "images"
    write_folder(images, named(["0.png"]))
    (images / "linked").symlink_to(tmp_path / "far")
    (images / "linked" / "b" / "up").symlink_to(images)
    (images / "self.png").symlink_to(images / "self.png")
    source = open_source(str(images))
    assert names_of(source) == ["0.png", "linked/a.png", "linked/b/c.png", "self.png"]
    assert source[2].shape == (2, 3, 3)
    with pytest.raises(UnreadableImage, match="symbolic links"):
        source[3]


def test_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        open_source(str(tmp_path))[0]


def test_names_are_kept_whatever_is_in_them(write):
    names = ["\u6f22\u5b57 \u00e9.png", "a" * 200 + ".png", "b#[0:3] '\"%s.png", "c/\n.png"]
    source = open_source(write(named(names)))
    assert names_of(source) == sorted(names)
    assert len({source[i].tobytes() for i in range(4)}) == 4


def test_members_of_one_name_are_each_read_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("images.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of the duplicate
        for value, name in enumerate(["a.png", "a.png", "../../out.png", "/abs.png"]):
            archive.writestr(name, png(value))
    source = open_source("images.zip")
    read = {source[i][0, 0, 0]: source.name(i) for i in range(4)}
    assert read == {0: "a.png", 1: "a.png", 2: "../../out.png", 3: "/abs.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["images.zip"]


def test_a_source_can_be_sent_to_another_process(write):
    source = open_source(write(named(["a.png", "b.png"])))
    sent = pickle.loads(pickle.dumps(source))
    assert names_of(sent) == names_of(source)
    chex.assert_trees_all_equal([sent[0], sent[1]], [source[0], source[1]])


def test_damaged_and_missing_members_are_unreadable(tmp_path):
    folder = open_source(write_folder(tmp_path / "images", named(["a.png"])))
    (tmp_path / "images" / "a.png").unlink()
    path = write_zip(tmp_path / "images.zip", named(["a.png"]))
    content = bytearray((tmp_path / "images.zip").read_bytes())
    at = content.index(b"IDAT")
    content[at + 6] ^= 0xFF  # the checksum of the member no longer holds
    (tmp_path / "images.zip").write_bytes(content)
    for files in (folder, open_source(path)):
        with pytest.raises(UnreadableImage, match=r"No such file|Bad CRC-32"):
            files[0]


def test_huge_file_is_refused_without_reading_it(write, monkeypatch):
    files = open_source(write(named(["a.png"])))
    monkeypatch.setattr(base, "MAX_FILE_BYTES", 10)
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
    with pytest.raises(InputError, match=message) as error:
        open_source(str(make(tmp_path)))
    assert "Give a folder or .zip of images" in str(error.value)
    assert "\n" not in str(error.value)


def test_empty_path_is_not_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folder(tmp_path, named(["a.png"])))
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(InputError, match="no such file or folder: ''"):
        open_source("")


def test_file_of_another_kind_holds_no_images(tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(InputError, match=r"no images under '.*notes\.txt' \(looked for"):
        open_source(str(tmp_path / "notes.txt"))


def test_zip_is_known_by_its_content_too(tmp_path):
    path = write_zip(tmp_path / "images.cbz", named(["a.png", "b.png"]))
    assert names_of(open_source(path)) == ["a.png", "b.png"]


def test_a_configs_path_is_named_as_such(tmp_path):
    data = Data(path=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"^data\.path: no such file or folder"):
        open_splits(data)


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
    assert len({crop.tobytes() for crop in crops}) > 490  # some are of one plain colour


def test_held_out_crops_are_in_true_colours():
    test = Photographs("test", 256)
    for row in range(2, len(test), 4):  # of camera.png, which is grey
        np.testing.assert_array_equal(test[row][..., 0], test[row][..., 2])
    shown = test[0].reshape(-1, 3).mean(0)  # an astronaut in orange
    assert shown[0] > shown[2]


def test_white_level_reaches_every_kind_of_source(write):
    file = io.BytesIO()
    Image.fromarray(np.full((2, 3), 4095, np.uint16)).save(file, "png")
    path = write({"a.png": file.getvalue()})
    assert open_source(path)[0].max() == 16
    bright = open_source(path, white_level=4095)
    assert bright[0].min() == pickle.loads(pickle.dumps(bright))[0].min() == 255
