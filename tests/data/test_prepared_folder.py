"""Folders of prepared images that are damaged, or of another kind: what is refused and how."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from avq.data import prepare as module
from avq.data.dataset import known_statistics
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources import open_source
from avq.errors import InputError

SIZE = 8


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Twenty-three images of noise in shards of four, and their description."""
    folder, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(23):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:02d}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "IMAGES_PER_SHARD", 4)
        about = prepare(str(folder / "images"), folder / "prepared", size=SIZE)
    return folder / "prepared", about


@pytest.fixture
def copy(prepared, tmp_path):
    """A copy of it that may be damaged."""
    folder, about = prepared
    return shutil.copytree(folder, tmp_path / "copy"), about


@pytest.mark.parametrize(
    "shards", [None, 3, {"train": [4]}, {"train": "44", "test": [4]}, {"train": [-1], "test": [4]}]
)
def test_damaged_description_is_refused(tmp_path, shards):
    (tmp_path / "dataset.json").write_text(json.dumps({"shards": shards}))
    with pytest.raises(InputError, match=r"dataset\.json is damaged"):
        open_source(str(tmp_path))


def lose_a_shard(folder, about):
    (folder / "train-00000-of-00005.array_record").unlink()


def cut_a_shard(folder, about):
    path = folder / "train-00002-of-00005.array_record"
    path.write_bytes(path.read_bytes()[:-7])


def exchange_two_shards(folder, about):
    one, other = (folder / f"train-{i:05d}-of-00005.array_record" for i in (0, 4))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def change(**values):
    def write(folder, about):
        (folder / "dataset.json").write_text(json.dumps(about | values))

    return write


def cut_the_description(folder, about):
    path = folder / "dataset.json"
    path.write_text(path.read_text()[:-9])


def empty_the_description(folder, about):
    (folder / "dataset.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_the_description, "dataset.json is damaged"),
        (empty_the_description, "dataset.json is damaged"),
        (lose_a_shard, "train-00000-of-00005.array_record is missing"),
        (cut_a_shard, "train-00002-of-00005.array_record' is no whole ArrayRecord file"),
        (exchange_two_shards, "has 1 images, and dataset.json says 4"),
        (change(counts={"train": 17, "test": 5}), "dataset.json is damaged"),
        (change(counts=None), "dataset.json is damaged"),
        (change(size="8"), "dataset.json is damaged"),
        (change(name_hashes={"train": "", "test": ""}), "dataset.json is damaged"),
        (change(name_hashes={"train": 3}), "dataset.json is damaged"),
    ],
    ids=[
        "text cut",
        "empty",
        "lost",
        "cut",
        "exchanged",
        "counts",
        "no counts",
        "size",
        "hashes",
        "no text",
    ],
)
def test_damaged_folder_is_refused_in_one_line_before_anything_is_read(copy, damage, message):
    damage(*copy)
    with pytest.raises(InputError, match=message) as error:
        open_source(str(copy[0]))
    assert "\n" not in str(error.value)


def test_dataset_json_of_another_kind_beside_images_is_left_alone(tmp_path):
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text("words")
    assert len(open_source(str(tmp_path))) == 1


@pytest.mark.parametrize("value", [None, "0.3", True])
def test_statistics_that_are_no_numbers_are_said_so(copy, value):
    change(pixel_variance=value)(*copy)
    data = Data(path=str(copy[0]), image_size=SIZE)
    with pytest.raises(InputError, match=r"dataset\.json is damaged"):
        known_statistics(data)
