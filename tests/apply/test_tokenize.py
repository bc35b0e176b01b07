"""A data set as codes: what is in the shards, and that no interruption and no device shows."""

import hashlib
import json
import shutil

import numpy as np
import pytest

import avq
from avq import parallel
from avq.apply import tokenize as module
from avq.apply.code_files import read_codes
from avq.apply.code_shards import read
from avq.data.dataset import open_dataset
from avq.data.settings import Data
from avq.data.split import open_splits
from avq.data.views import SquareView
from avq.errors import InputError
from avq.settings import construct


@pytest.fixture
def flat(image_folder, tmp_path):
    """The same images without a split."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in image_folder.rglob("*.png"):
        shutil.copy(path, folder)
    return folder


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Interrupted(BaseException):
    pass


def interrupt_after(images):
    done = []

    def on_images(count):
        done.append(count)
        if sum(done) > images:
            raise Interrupted

    return on_images


def test_codes_are_those_of_the_tokenizer_by_name_and_split(
    whole, tokenizer, squares, image_folder
):
    for split, count in (("train", 16), ("test", 4)):
        codes = read(whole, split)
        assert len(codes) == count
        names, arrays = codes.arrays()
        assert names == [
            f"{split}/{path.name}" for path in sorted((image_folder / split).iterdir())
        ]
        expected = tokenizer.encode(squares(image_folder / split))
        assert [grid.dtype for grid in arrays] == [np.uint8]
        for ours, theirs in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for position, (name, grids) in enumerate(codes):
            assert name == names[position]
            np.testing.assert_array_equal(grids[0], arrays[0][position])
        with pytest.raises(IndexError):
            codes[count]


def test_description_says_what_is_there(whole, tokenizer):
    about = json.loads((whole / "codes.json").read_text())
    assert about["model"] == tokenizer.digest
    assert (about["image_size"], about["grids"]) == (16, [[4, 4]])
    assert (about["codebook_sizes"], about["types"]) == ([8], ["uint8"])
    assert about["counts"] == {"train": 16, "test": 4}
    assert [shard["images"] for shard in about["shards"]] == [8, 8, 4]
    assert set(digests(whole)) == {"codes.json", *(shard["file"] for shard in about["shards"])}


def test_record_is_readable_from_its_description_alone(whole, tokenizer):
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(whole / "test-00000-of-00001.array_record"))
    record = reader.read_all()[1]
    reader.close()
    assert record[:4] == (11).to_bytes(4, "little")
    assert record[4:15] == b"test/17.png"
    assert record[15:] == read(whole, "test")[1][1][0].tobytes()


def test_split_of_images_without_one_is_that_of_a_run_on_them(tokenized, tokenizer, flat, tmp_path):
    about = tokenized(flat, tmp_path / "codes")
    section = tokenizer.trained.config["data"] | {"path": str(flat), "batch_size": 1}
    dataset = open_dataset(construct(Data, section))
    for split, images in (("train", dataset.train), ("test", dataset.test)):
        expected = [images.source.name(row) for row in range(len(images))]
        assert [name for name, _ in read(tmp_path / "codes", split)] == expected
    assert about["split_rule"] == dataset.summary.split_rule


def test_set_of_test_images_alone_has_no_training_codes(tokenized, image_folder, tmp_path):
    shutil.copytree(image_folder / "test", tmp_path / "in" / "test")
    assert tokenized(tmp_path / "in", tmp_path / "codes")["counts"] == {"train": 0, "test": 4}
    names, (grids,) = read(tmp_path / "codes", "train").arrays()
    assert (names, grids.shape) == ([], (0, 4, 4))


def test_photographs_become_random_squares_as_training_sees_them(
    tokenized, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "SQUARES", 8)
    assert tokenized("photographs", tmp_path / "codes")["counts"] == {"train": 8, "test": 512}
    names, (codes,) = read(tmp_path / "codes", "train").arrays()
    assert names[:2] == ["rocket.jpg#0", "coffee.png#0"]
    assert names[6:] == ["rocket.jpg#1", "coffee.png#1"]
    whole = open_splits(Data(path="photographs", image_size=16)).train
    view = SquareView(16, augment=True)
    squares = [view(whole[i % 6], np.random.default_rng(i)) for i in range(8)]
    np.testing.assert_array_equal(codes, tokenizer.encode(np.stack(squares))[0])


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_do_not_change_a_byte(tokenized, image_folder, whole, tmp_path, devices):
    tokenized(image_folder, tmp_path / "codes", mesh=parallel.make_mesh(devices))
    assert digests(tmp_path / "codes") == digests(whole)


@pytest.mark.parametrize("images", [0, 8, 16])
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(
    tokenized, image_folder, whole, tmp_path, images
):
    target = tmp_path / "codes"
    with pytest.raises(Interrupted):
        tokenized(image_folder, target, on_images=interrupt_after(images))
    with pytest.raises(InputError, match=r"is not finished\. Run the same avq tokenize again"):
        read(target, "train")
    kept: list[int] = []
    done: list[int] = []
    tokenized(image_folder, target, on_kept=kept.append, on_images=done.append)
    assert digests(target) == digests(whole)
    assert (sum(kept), sum(done)) == (images, 20 - images)


def test_finished_one_is_left_alone(tokenized, image_folder, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    done: list[int] = []
    about = tokenized(image_folder, whole, on_images=done.append)
    assert about == json.loads((whole / "codes.json").read_text())
    assert done == []
    assert before == {path: path.stat().st_mtime_ns for path in whole.iterdir()}


@pytest.mark.parametrize("suffix", ["", ".npz"])
@pytest.mark.parametrize("finished", [True, False])
def test_other_model_or_images_are_refused_and_nothing_changes(
    tokenized, run, image_folder, flat, tmp_path, suffix, finished
):
    target = tmp_path / "out" / f"codes{suffix}"
    target.parent.mkdir()
    if finished:
        tokenized(image_folder, target)
    else:
        with pytest.raises(Interrupted):
            tokenized(image_folder, target, on_images=interrupt_after(8))
    before = digests(target.parent)
    with pytest.raises(InputError, match=r"another split_rule and source\."):
        tokenized(flat, target)
    with pytest.raises(InputError, match=r"another model\. Give"):
        tokenized(image_folder, target, model=avq.load(run, dtype="bfloat16"))
    after = digests(target.parent)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed <= {"unfinished/lock"}
    assert before.keys() == after.keys()


def test_folder_or_file_of_another_kind_is_refused(tokenized, image_folder, tmp_path):
    with pytest.raises(InputError, match="is not an empty folder"):
        tokenized(image_folder, image_folder)
    np.savez(tmp_path / "other.npz", level1=np.zeros(3))
    (tmp_path / "words.npz").write_text("words")
    for name in ("other", "words"):
        with pytest.raises(InputError, match=r"\.npz' is no file of avq tokenize\. Give another"):
            tokenized(image_folder, tmp_path / f"{name}.npz")
    assert (tmp_path / "words.npz").read_text() == "words"


def test_unreadable_images_are_left_out_counted_and_refused_above_a_share(
    tokenized, image_folder, whole, tmp_path
):
    shutil.copytree(image_folder, tmp_path / "in")
    (tmp_path / "in" / "train" / "03.png").write_bytes(b"words")
    with pytest.raises(InputError, match=r"1 of 16 images are unreadable.*train/03\.png"):
        tokenized(tmp_path / "in", tmp_path / "codes")
    with pytest.raises(Interrupted):
        tokenized(
            tmp_path / "in", tmp_path / "codes", max_rejected=0.1, on_images=interrupt_after(8)
        )
    with pytest.raises(InputError, match=r"1 of 16 images are unreadable"):  # by its note
        tokenized(tmp_path / "in", tmp_path / "codes")
    about = tokenized(tmp_path / "in", tmp_path / "codes", max_rejected=0.1)
    assert about["counts"] == {"train": 15, "test": 4}
    (entry,) = about["rejected"]
    assert entry == {"name": "train/03.png", "reason": "5 bytes: no known image format"}
    there = dict(read(tmp_path / "codes", "train"))
    assert "train/03.png" not in there
    for name, (grid,) in read(whole, "train"):
        if name in there:
            np.testing.assert_array_equal(grid, there[name][0])


def test_image_that_was_mended_meanwhile_is_encoded(tokenized, image_folder, whole, tmp_path):
    shutil.copytree(image_folder, tmp_path / "in")
    (tmp_path / "in" / "train" / "03.png").write_bytes(b"words")
    target = tmp_path / "codes"
    with pytest.raises(Interrupted):
        tokenized(tmp_path / "in", target, max_rejected=0.1, on_images=interrupt_after(8))
    shutil.copy(image_folder / "train" / "03.png", tmp_path / "in" / "train")
    tokenized(tmp_path / "in", target)
    assert digests(target) == digests(whole)


def test_set_without_a_readable_image_is_refused(tokenized, tmp_path):
    (tmp_path / "in" / "test").mkdir(parents=True)
    (tmp_path / "in" / "test" / "a.png").write_bytes(b"words")
    with pytest.raises(InputError, match="there is no readable image"):
        tokenized(tmp_path / "in", tmp_path / "codes", max_rejected=1.0)


def test_file_holds_the_same_and_is_continued_too(
    tokenized, tokenizer, image_folder, whole, tmp_path
):
    file, again = tmp_path / "codes.npz", tmp_path / "again.npz"
    about = tokenized(image_folder, file)
    with pytest.raises(Interrupted):
        tokenized(image_folder, again, on_images=interrupt_after(8))
    assert not again.exists()
    kept: list[int] = []
    assert tokenized(image_folder, again, on_kept=kept.append) == about
    assert kept == [8]
    assert file.read_bytes() == again.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"codes.npz", "again.npz"}
    found = read_codes(file, tokenizer)
    expected = [entry for split in ("train", "test") for entry in read(whole, split)]
    assert found.names == [name for name, _ in expected]
    assert set(found.sizes) == {(16, 16)}
    for (_, theirs), ours in zip(expected, found.codes, strict=True):
        np.testing.assert_array_equal(theirs[0], ours[0])
    with np.load(file) as arrays:
        assert arrays["splits"].tolist() == ["train"] * 16 + ["test"] * 4


def test_file_killed_before_its_shards_were_removed_is_finished(
    tokenized, image_folder, whole, tmp_path
):
    file = tmp_path / "codes.npz"
    tokenized(image_folder, file)
    shutil.copytree(whole, tmp_path / "codes.npz.shards")
    done: list[int] = []
    tokenized(image_folder, file, on_images=done.append)
    assert done == []
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npz"]
