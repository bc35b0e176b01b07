"""Training and test images: splits that come with the images, and splits drawn by name."""

import hashlib

import numpy as np
import pytest

from avq.data import split as module
from avq.data.settings import Data
from avq.data.sources import Subset
from avq.data.split import OLDER, open_splits, split_of_older_run, split_rows
from avq.errors import InputError


class Named:
    """Images of these names, which cannot be read."""

    augment = False

    def __init__(self, names):
        self.names = list(names)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        raise NotImplementedError

    def name(self, index):
        return self.names[index]

    def places(self, index):
        return tuple(f"{folder}/" for folder in self.names[index].split("/")[:-1])


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "HASHED", 8)


def split(names, share=0.8, seed=0, **options):
    """Names by split."""
    source = Named(names)
    rows = split_rows(source, share, seed, **options).rows
    return {part: [source.name(int(row)) for row in rows[part]] for part in rows}


def side_by_hand(name, share, seed):
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=str(seed).encode()).digest()
    return "train" if int.from_bytes(digest, "little") / 2**64 < share else "test"


def test_no_image_changes_sides_when_others_come_and_go():
    rng = np.random.default_rng(0)
    before = [f"{folder}/{i:04d}.jpg" for folder in "ab" for i in range(500)]
    removed = set(rng.choice(before, 100, replace=False).tolist())
    added = [f"{rng.choice(list('0abz'))}/new {i}.jpg" for i in range(100)]
    after = sorted([name for name in before if name not in removed] + added)
    sides = [split(names, seed=1967) for names in (before, after)]
    assert [len(side["train"]) + len(side["test"]) for side in sides] == [1000, 1000]
    for part in ("train", "test"):
        assert set(sides[0][part]) - removed == set(sides[1][part]) - set(added)
    assert 760 < len(sides[0]["train"]) < 840


def test_side_is_the_hash_of_seed_and_name_below_the_share():
    names = ["a.png", "\u00e9\u6f22.png", *(f"{i}.png" for i in range(200))]
    for share, seed in ((0.8, 1967), (0.5, 0)):
        parts = split(names, share, seed)
        assert parts == {
            part: [name for name in names if side_by_hand(name, share, seed) == part]
            for part in ("train", "test")
        }
    assert split(names, seed=1)["test"] != split(names, seed=2)["test"]


@pytest.mark.parametrize("seed", range(20))
def test_two_images_are_one_on_each_side_always_the_same(seed):
    parts = split(["a", "b"], 0.99, seed)
    assert sorted(map(len, parts.values())) == [1, 1]
    assert parts == split(["a", "b"], 0.99, seed)


def test_whole_shares_leave_a_side_empty():
    assert split("abc", 1.0) == {"train": ["a", "b", "c"], "test": []}
    assert split("abc", 0.0) == {"train": [], "test": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("train", "test", "others"),
    [
        (["train/a", "train/x/b"], ["test/c"], []),
        (["faces/v1/train/a"], ["faces/v1/test/b"], []),
        (["set/train/a"], ["set/test/b"], ["logo"]),
        (["Train/a"], ["Test/b"], []),
        (["training/a"], ["testing/b"], ["labels/c"]),
        (["train2017/a"], ["val2017/b"], ["unlabeled2017/c"]),
        (["DIV2K_train_HR/a"], ["DIV2K_valid_HR/b"], []),
        (["train/a"], ["dev/b"], []),
        (["cat/train/a", "dog/train/b"], ["cat/test/c", "dog/test/d"], ["dog/e"]),
        (["images/train/a"], ["images/val/b"], []),
        (["train/a"], ["test/b"], ["val/c"]),
        (["trainA/a", "trainB/b"], ["testA/c", "testB/d"], []),
        (["test/train/a"], ["test/test/b"], []),
        (["train/x/a"], ["eval/x/b"], []),
        (["set/trainval/a"], ["set/test/b"], []),
        (["train2017/a"], ["val2017/b"], ["test2014/c"]),
        (["MyTrainSet/a"], ["MyTestSet/b"], []),
    ],
)
def test_names_of_a_split_are_the_split_at_any_level_and_spelling(train, test, others):
    names = sorted([*train, *test, *others])
    assert split(names) == {"train": sorted(train), "test": sorted(test)}
    assert sum(split_rows(Named(names), 0.8, 0).unused.values()) == len(others)


def test_rule_and_unused_images_are_named():
    names = ["a/train/1", "a/train/2", "a/test/3", "a/val/4", "a/val/5", "logo"]
    own = split_rows(Named(names), 0.8, 0)
    assert own.rule == "folders train/ and test/"
    assert own.unused == {"validation": 2, "outside of these": 1}
    assert split_rows(Named("abc"), 0.75, 0).rule == "hash of names, 75 % / 25 %"


@pytest.mark.parametrize("names", [["test/a", "test/b"], ["x/val/a", "x/val/b"]])
def test_test_images_alone_are_all_tested_on(names):
    assert split(names) == {"train": [], "test": names}
    assert split_rows(Named(names), 0.8, 0).rule.endswith("/ alone")


def test_train_images_alone_are_split_by_hash():
    names = [f"train/{i}" for i in range(5)]
    assert split(names)["test"] == [n for n in names if side_by_hand(n, 0.8, 0) == "test"]


@pytest.mark.parametrize(
    "names",
    [
        ["train2017/a", "val2014/b"],
        ["test/a", "b"],
        ["cats/a", "set/train/b"],
        ["train/a", "x/test/b"],
    ],
)
def test_names_of_half_a_split_are_refused_unless_a_random_one_is_asked_for(names):
    with pytest.raises(InputError, match=r"names look like a split .*random_split") as error:
        split(names)
    assert "\n" not in str(error.value)
    parts = split(names, random=True)
    assert sorted(parts["train"] + parts["test"]) == sorted(names)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["train/a", "test/b", "val/c"], (["train/a"], ["test/b"])),
        (["x/train/a", "x/val/b"], (["x/train/a"], ["x/val/b"])),
    ],
)
def test_older_runs_keep_the_folders_that_they_knew(names, parts):
    rows = split_of_older_run(Named(names), 0.8, 0).rows
    assert tuple([names[row] for row in rows[part]] for part in ("train", "test")) == parts


@pytest.mark.parametrize("names", ["abcdefghij", ["Train/a", "Test/b", *"cdefghij"]])
def test_older_runs_keep_their_split_by_row_number(names):
    order = np.random.default_rng(1967).permutation(10)
    older = split_of_older_run(Named(names), 0.8, 1967)
    np.testing.assert_array_equal(older.rows["train"], np.sort(order[:8]))
    np.testing.assert_array_equal(older.rows["test"], np.sort(order[8:]))
    assert older.rule == OLDER


def test_a_configs_folders_are_split_and_its_other_files_counted(tmp_path):
    for name in ("train/a.png", "test/b.png", "test/c.HEIC", "d.CR2", "e.heic", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    splits = open_splits(Data(path=str(tmp_path)))
    assert isinstance(splits.train, Subset)
    assert (splits.train.name(0), splits.test.name(0)) == ("train/a.png", "test/b.png")
    assert splits.unused == {".heic files": 2, ".cr2 files": 1}


def test_refusal_of_a_configs_folders_names_the_setting(tmp_path):
    for name in ("train/a.png", "b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    data = Data(path=str(tmp_path))
    with pytest.raises(InputError, match=r"^data\.path: names look like a split \(train/\)"):
        open_splits(data)
    splits = open_splits(Data(path=str(tmp_path), random_split=True))
    assert len(splits.train) == len(splits.test) == 1
