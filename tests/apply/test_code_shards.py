"""Folders of codes: what is refused of damaged ones, and records that are read back."""

import json
import shutil

import numpy as np
import pytest

from avq.apply.code_shards import Layout, read
from avq.errors import InputError


def change(**values):
    def write(folder):
        about = json.loads((folder / "codes.json").read_text())
        (folder / "codes.json").write_text(json.dumps(about | values))

    return write


def lose_a_shard(folder):
    (folder / "train-00001-of-00002.array_record").unlink()


def cut_a_shard(folder):
    path = folder / "train-00001-of-00002.array_record"
    path.write_bytes(path.read_bytes()[:-7])


def exchange_shards(folder):
    shutil.copy(
        folder / "test-00000-of-00001.array_record", folder / "train-00001-of-00002.array_record"
    )


def flip_a_byte(folder):
    path = folder / "train-00001-of-00002.array_record"
    content = bytearray(path.read_bytes())
    content[content.index(b"train/09.png") + 14] ^= 1
    path.write_bytes(content)


ELSEWHERE = [{"file": "../a.array_record", "split": "train", "images": 16}]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_a_shard, "train-00001-of-00002.array_record is missing"),
        (cut_a_shard, "is no whole ArrayRecord file"),
        (exchange_shards, "has 4 images, and codes.json says 8"),
        (flip_a_byte, r"train-00001-of-00002.array_record#1 in .* is damaged"),
        (change(grids=[[2, 2]]), r"#0 in .* is damaged \(32 bytes, not 20\)"),
        (change(grids=[[8, 8]]), r"#0 in .* is damaged"),
        (change(codebook_sizes=[1]), r"#0 in .* is damaged \(codes are not all in 0\.\.0"),
        (change(grids=None), "codes.json is damaged"),
        (change(codebook_sizes=[0]), "codes.json is damaged"),
        (change(counts={"train": 15, "test": 4}), "codes.json is damaged"),
        (change(shards=ELSEWHERE), "names a file elsewhere"),
        (change(format=2), "format 2, which this avq does not know"),
        (lambda folder: (folder / "codes.json").write_text("{"), "codes.json' is damaged"),
        (lambda folder: (folder / "codes.json").write_text("[]"), "codes.json is damaged"),
        (lambda folder: (folder / "codes.json").unlink(), "holds no codes: no codes.json"),
    ],
)
def test_damaged_folder_is_refused_in_one_line(whole, tmp_path, damage, message):
    shutil.copytree(whole, tmp_path / "codes")
    damage(tmp_path / "codes")
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path / "codes", "train").arrays()
    assert "\n" not in str(error.value)


def test_split_that_there_is_not_is_refused(whole):
    with pytest.raises(InputError, match="split 'val' is not one of train, test"):
        read(whole, "val")


def test_records_of_any_name_and_width_are_read_back():
    layout = Layout(((2, 3), (1, 1)), (2**16 + 1, 256))
    codes = (np.array([[0, 1, 2], [3, 2**16, 5]]), np.array([[255]]))
    for name in ("", "a/ä.png", "\udcff.png"):
        read_name, grids = layout.parsed(layout.record(name, codes))
        assert read_name == name
        assert [grid.dtype for grid in grids] == [np.uint32, np.uint8]
        for ours, theirs in zip(grids, codes, strict=True):
            np.testing.assert_array_equal(ours, theirs)
