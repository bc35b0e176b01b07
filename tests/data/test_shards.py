"""ArrayRecord and Parquet: rows, splits, damage."""

import pickle
import shutil

import numpy as np
import pyarrow
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from pyarrow import parquet

from avq.data.images import UnreadableImage, encode
from avq.data.sources import open_source
from avq.data.split import split_rows
from avq.errors import InputError


def image(value):
    return np.full((3, 2, 3), value, np.uint8)


def row(value):
    return {"bytes": encode(image(value), ""), "path": f"{value}.ppm"}


def write_records(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for value in values:
        writer.write(encode(image(value), ""))
    writer.close()


def write_parquet(path, values, column="image"):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"label": list(values), column: [row(value) for value in values]})
    parquet.write_table(table, path, row_group_size=2)


KINDS = {"array_record": write_records, "parquet": write_parquet}


class Writer:
    """Writes files by stem and values, and returns their folder."""

    def __init__(self, folder, suffix):
        self.folder, self.suffix = folder, suffix

    def __call__(self, files):
        for stem, values in files.items():
            KINDS[self.suffix](self.folder / f"{stem}.{self.suffix}", values)
        return self.folder


@pytest.fixture(params=KINDS)
def shards(request, tmp_path):
    return Writer(tmp_path, request.param)


def values_of(source, rows):
    return [int(source[int(i)][0, 0, 0]) for i in rows]


def test_rows_of_all_files_follow_one_another(shards):
    source = open_source(str(shards({"a": range(3), "b": range(3, 8), "c": [8]})))
    assert values_of(source, range(len(source))) == list(range(9))
    names = [source.name(i) for i in (0, 2, 3, 7, 8)]
    assert names == [f"{name}.{shards.suffix}#{r}" for name, r in
                     (("a", 0), ("a", 2), ("b", 0), ("b", 4), ("c", 0))]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001", "data/test-00000-of-00001-0a1b"),
        ("default/train/0000", "default/validation/0000"),
        ("train", "val"),
        ("imagenet-train-00000-of-00002", "imagenet-validation-00000-of-00001"),
        ("Training/part", "Testing/part"),
    ],
)
def test_split_is_in_the_names_of_files_or_folders(shards, train, test):
    source = open_source(str(shards({train: range(3), test: [7, 8]})))
    rows = split_rows(source, 0.8, 0).rows
    assert values_of(source, rows["train"]) == [0, 1, 2]
    assert values_of(source, rows["test"]) == [7, 8]


def test_files_of_no_known_split_are_split_at_random(shards):
    source = open_source(str(shards({"0000": range(4), "0001": range(4, 10)})))
    rows = split_rows(source, 0.8, 0).rows
    assert len(rows["train"]) > len(rows["test"]) > 0
    assert sorted(np.concatenate(list(rows.values()))) == list(range(10))


def test_one_file_is_a_source_too(shards):
    folder = shards({"a": range(3), "b": [9]})
    assert values_of(open_source(str(folder / f"a.{shards.suffix}")), range(3)) == [0, 1, 2]


def test_shards_can_be_sent_to_another_process(shards):
    source = open_source(str(shards({"a": range(5)})))
    sent = pickle.loads(pickle.dumps(source))
    assert values_of(sent, range(5)) == values_of(source, range(5))


@pytest.mark.parametrize("left", [0, 20, 0.5, -5])
def test_truncated_file_is_named(shards, left):
    folder = shards({"a": range(3), "b": range(3)})
    path = folder / f"b.{shards.suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if 0 < left < 1 else left])
    with pytest.raises(InputError, match=rf"b\.{shards.suffix}' is no whole"):
        open_source(str(folder))


def test_files_without_records_are_no_images(tmp_path):
    write_records(tmp_path / "a.array_record", [])
    with pytest.raises(InputError, match="no images under"):
        open_source(str(tmp_path))
    write_records(tmp_path / "b.array_record", [3, 4])
    assert values_of(open_source(str(tmp_path)), range(2)) == [3, 4]


def test_damaged_record_is_unreadable_and_the_others_are_not(tmp_path):
    write_records(tmp_path / "a.array_record", range(20))
    content = bytearray((tmp_path / "a.array_record").read_bytes())
    at = content.index(encode(image(7), ""))
    content[at + 15] ^= 1  # a value of a pixel
    (tmp_path / "a.array_record").write_bytes(content)
    source = open_source(str(tmp_path))
    with pytest.raises(UnreadableImage, match="hash mismatch"):
        source[7]
    assert values_of(source, [*range(7), *range(8, 20)]) == [*range(7), *range(8, 20)]


def test_rows_without_bytes_are_unreadable(tmp_path):
    rows = [row(0), None, {"bytes": b"", "path": None}, {"bytes": None, "path": "far.png"}, row(4)]
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "a.parquet")
    source = open_source(str(tmp_path))
    for i in (1, 2):
        with pytest.raises(UnreadableImage, match="the row has no bytes"):
            source[i]
    with pytest.raises(UnreadableImage, match=r"the row holds a path, 'far\.png', and no picture"):
        source[3]
    assert values_of(source, [0, 4]) == [0, 4]


@pytest.mark.parametrize("column", ["image", "img", "bytes"])
def test_column_of_images_is_found(tmp_path, column):
    values = [row(v)["bytes"] if column == "bytes" else row(v) for v in range(3)]
    table = pyarrow.table({"label": [b"x"] * 3 if column == "image" else [1] * 3, column: values})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert values_of(open_source(str(tmp_path)), range(3)) == [0, 1, 2]


def test_table_without_images_is_refused(tmp_path):
    parquet.write_table(pyarrow.table({"label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has no column of images"):
        open_source(str(tmp_path))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    write_parquet(tmp_path / "a.parquet", [1])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'avq\[parquet\]'"):
        open_source(str(tmp_path))


def test_images_beside_shards_are_the_source(shards):
    folder = shards({"a": range(3)})
    (folder / "x.png").write_bytes(encode(image(1), ""))
    assert open_source(str(folder)).name(0) == "x.png"
    shutil.copy(folder / "x.png", folder / "y.png")
    assert len(open_source(str(folder))) == 2
