"""Prepared data sets: the images in them, what is counted, and that no interruption shows."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from avq.data import description, shard_folder
from avq.data import prepare as module
from avq.data.dataset import known_statistics
from avq.data.names import hash_names
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources import open_source
from avq.data.sources.base import name_hashes
from avq.data.split import split_rows
from avq.data.views import centre_square
from avq.errors import InputError

SIZE = 8


@pytest.fixture
def folder(tmp_path):
    """Twenty-three images of noise; the last is a near copy of the first."""
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(22):
        pixels = rng.integers(0, 256, (*rng.integers(8, 20, 2), 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02d}.png")
    with Image.open(path / "00.png") as first:
        first.point(lambda v: v // 2).save(path / "22.png")
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "IMAGES_PER_SHARD", 4)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def squares(path, split, seed=1967):
    source = open_source(str(path))
    rows = split_rows(source, 0.8, seed).rows[split]
    return np.stack([centre_square(source[int(row)], SIZE) for row in rows])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (4, "RGBA")])
def test_other_channels_are_kept_with_their_statistics(tmp_path, channels, mode):
    path, rng = tmp_path / "images", np.random.default_rng(0)
    path.mkdir()
    for i in range(9):
        pixels = rng.integers(1, 256, (12, 9, 4)).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(path / f"{i}.png")
    about = prepare(str(path), tmp_path / "prepared", size=SIZE, channels=channels)
    source = open_source(str(path), channels=channels)
    again = open_source(str(tmp_path / "prepared"), channels=channels)
    rows = split_rows(source, 0.8, 1967).rows
    for new, old in enumerate([*rows["train"], *rows["test"]]):
        np.testing.assert_array_equal(again[new], centre_square(source[int(old)], SIZE))
    trained_on = np.stack([centre_square(source[int(row)], SIZE) for row in rows["train"]])
    values = trained_on / 127.5 - 1
    np.testing.assert_allclose(about["channels"]["mean"], values.mean((0, 1, 2)), rtol=1e-12)
    data = Data(path=str(tmp_path / "prepared"), image_size=SIZE, channels=channels)
    assert known_statistics(data) == pytest.approx((values.mean(), values.var()))


def test_channels_that_were_lost_are_refused_and_others_converted(folder, tmp_path):
    target = tmp_path / "prepared"
    prepare(str(folder), target, size=SIZE)
    with pytest.raises(InputError, match=r"holds RGB images, and data\.channels=4 asks for RGBA"):
        open_source(str(target), channels=4)
    grey = np.asarray(Image.fromarray(open_source(str(target))[0]).convert("L"))
    np.testing.assert_array_equal(open_source(str(target), channels=1)[0][..., 0], grey)
    assert known_statistics(Data(path=str(target), image_size=SIZE, channels=1)) is None
    with pytest.raises(InputError, match="begun with another mode"):
        prepare(str(folder), target, size=SIZE, channels=1)


def test_folder_of_an_avq_that_knew_rgb_alone_is_finished(folder, tmp_path):
    target = tmp_path / "prepared"
    about = prepare(str(folder), target, size=SIZE)
    older = {key: value for key, value in about.items() if key != "mode"}
    (target / "dataset.json").write_text(json.dumps(older))
    assert prepare(str(folder), target, size=SIZE) == older
    data = Data(path=str(target), image_size=SIZE)
    assert known_statistics(data) == (about["pixel_mean"], about["pixel_variance"])


def test_training_from_it_sees_the_images_that_the_source_gives(folder, tmp_path):
    target = tmp_path / "prepared"
    about = prepare(str(folder), target, size=SIZE)
    assert about["counts"] == {"train": 17, "test": 6}
    for split in ("train", "test"):
        np.testing.assert_array_equal(squares(target, split), squares(folder, split))
    assert json.loads((target / "dataset.json").read_text()) == about
    assert about["shards"] == {"train": [4, 4, 4, 4, 1], "test": [4, 2]}
    files = [*(f"train-{k:05d}-of-00005" for k in range(5)), "test-00000-of-00002"]
    files = [f"{file}.array_record" for file in [*files, "test-00001-of-00002"]]
    assert set(digests(target)) == {"dataset.json", *files}


def test_statistics_are_those_of_all_training_pixels(folder, tmp_path):
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE)
    pixels = squares(folder, "train").astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(about["pixel_mean"], pixels.mean(), rtol=1e-12)
    np.testing.assert_allclose(about["pixel_variance"], pixels.var(), rtol=1e-12)
    np.testing.assert_allclose(about["pixel_std"], pixels.std(), rtol=1e-12)
    np.testing.assert_allclose(about["channels"]["mean"], pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(about["channels"]["variance"], pixels.var((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(about["channels"]["std"], pixels.std((0, 1, 2)), rtol=1e-12)


def test_own_split_is_kept(folder, tmp_path):
    for i in range(22):
        part = folder / ("test" if i % 3 == 0 else "train")
        part.mkdir(exist_ok=True)
        (folder / f"{i:02d}.png").rename(part / f"{i:02d}.png")
    (folder / "22.png").unlink()
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE)
    assert about["counts"] == {"train": 14, "test": 8}
    np.testing.assert_array_equal(squares(tmp_path / "prepared", "test"), squares(folder, "test"))


def test_workers_do_not_change_a_byte(folder, tmp_path):
    for workers in (1, 2):
        prepare(str(folder), tmp_path / str(workers), size=SIZE, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


@pytest.mark.parametrize("images", [0, 1, 4, 9, 18, 20, 22])
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(folder, tmp_path, images):
    class Interrupted(BaseException):
        pass

    done = []

    def interrupt(count):
        done.append(count)
        if sum(done) > images:
            raise Interrupted

    prepare(str(folder), tmp_path / "whole", size=SIZE)
    target = tmp_path / "prepared"
    with pytest.raises(Interrupted):
        prepare(str(folder), target, size=SIZE, on_images=interrupt)
    with pytest.raises(InputError, match="is not finished"):
        open_source(str(target))
    again: list[int] = []
    prepare(str(folder), target, size=SIZE, on_images=again.append)
    assert digests(target) == digests(tmp_path / "whole")
    shards = np.array([4, 4, 4, 4, 1, 4, 2])
    whole = np.cumsum(shards) <= images  # shards that are kept, each reported at once
    assert len(again) == whole.sum() + shards[~whole].sum()


def test_finished_one_is_left_alone(folder, tmp_path):
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "prepared").iterdir()}
    again: list[int] = []
    assert prepare(str(folder), tmp_path / "prepared", size=SIZE, on_images=again.append) == about
    assert again == []
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "prepared").iterdir()}


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_or_images_are_refused(folder, tmp_path, finished):
    target = tmp_path / "prepared"
    prepare(str(folder), target, size=SIZE)
    if not finished:
        (target / "unfinished").mkdir()
        about = json.loads((target / "dataset.json").read_text())
        (target / "unfinished" / "settings.json").write_text(json.dumps(about))
    before = digests(target)
    with pytest.raises(InputError, match="was begun with another size and seed"):
        prepare(str(folder), target, size=16, seed=3)
    (folder / "new.png").write_bytes((folder / "00.png").read_bytes())
    with pytest.raises(InputError, match="was begun with another source"):
        prepare(str(folder), target, size=SIZE)
    assert digests(target) == before


def test_folder_that_holds_something_else_is_refused(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("words")
    for target in (tmp_path / "other", tmp_path / "other" / "thesis.txt"):
        with pytest.raises(InputError, match="is not an empty folder"):
            prepare(str(folder), target, size=SIZE)


def test_unreadable_files_are_listed_with_reasons_and_left_out(folder, tmp_path):
    (folder / "03.png").write_bytes(b"words")
    (folder / "11.png").write_bytes(b"")
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE, max_rejected=0.1)
    assert {entry["name"]: entry["reason"] for entry in about["rejected"]} == {
        "03.png": "5 bytes: no known image format",
        "11.png": "0 bytes: no known image format",
    }
    assert sum(about["counts"].values()) == 21
    assert len(open_source(str(tmp_path / "prepared"))) == 21


def test_too_many_unreadable_files_stop_it_and_mended_ones_are_taken(folder, tmp_path):
    prepare(str(folder), tmp_path / "whole", size=SIZE)
    good = {name: (folder / name).read_bytes() for name in ("04.png", "11.png")}
    for name in good:
        (folder / name).write_bytes(b"words")
    target = tmp_path / "prepared"
    with pytest.raises(InputError, match=r"2 of 23 images are unreadable.*04\.png.*11\.png"):
        prepare(str(folder), target, size=SIZE, max_rejected=0.05)
    for name, data in good.items():
        (folder / name).write_bytes(data)
    prepare(str(folder), target, size=SIZE, max_rejected=0.05)
    assert digests(target) == digests(tmp_path / "whole")


def test_near_duplicates_across_the_split_are_named(folder, tmp_path):
    for seed in range(20):
        source = open_source(str(folder))
        by_split = split_rows(source, 0.8, seed).rows
        sides = {split: {source.name(int(r)) for r in rows} for split, rows in by_split.items()}
        if "00.png" in sides["train"] and "22.png" in sides["test"]:
            break
    (folder / "03.png").write_bytes(b"words")  # rows of a shard are not those of its images
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE, seed=seed, max_rejected=0.1)
    assert about["near_duplicates"] == {
        "pairs": 1,
        "first": [{"train": "00.png", "test": "22.png"}],
    }


def test_full_disk_is_one_line_and_the_same_command_continues(folder, tmp_path, monkeypatch):
    prepare(str(folder), tmp_path / "whole", size=SIZE)
    replace, calls = os.replace, []

    def full(*paths):
        calls.append(paths)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        replace(*paths)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        prepare(str(folder), tmp_path / "prepared", size=SIZE)
    monkeypatch.undo()
    monkeypatch.setattr(module, "IMAGES_PER_SHARD", 4)
    prepare(str(folder), tmp_path / "prepared", size=SIZE)
    assert digests(tmp_path / "prepared") == digests(tmp_path / "whole")


def test_prepared_images_are_known_by_the_names_of_their_sources(folder, tmp_path):
    (folder / "03.png").write_bytes(b"words")
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE, max_rejected=0.1)
    parts = split_rows(open_source(str(folder)), 0.8, 1967)
    assert about["split_rule"] == parts.rule == "hash of names, 80 % / 20 %"
    source = open_source(str(folder))
    names = [source.name(int(r)) for split in ("train", "test") for r in parts.rows[split]]
    names.remove("03.png")
    prepared = name_hashes(open_source(str(tmp_path / "prepared")))
    np.testing.assert_array_equal(prepared, hash_names(names))
    smaller = prepare(str(tmp_path / "prepared"), tmp_path / "smaller", size=4)
    assert smaller["name_hashes"] == about["name_hashes"]


@pytest.mark.parametrize("left", [(), ("shard",), ("settings.json",)])
def test_killed_while_it_began_or_cleaned_up_it_still_goes_on(folder, tmp_path, left):
    prepare(str(folder), tmp_path / "whole", size=SIZE)
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    (begun / "unfinished").mkdir(parents=True)
    shutil.copytree(tmp_path / "whole", ended)
    (ended / "unfinished").mkdir()
    for name in left:
        about = (ended / "dataset.json").read_text() if name == "settings.json" else ""
        (ended / "unfinished" / name).write_text(about)
    for target in (begun, ended):
        prepare(str(folder), target, size=SIZE)
        assert digests(target) == digests(tmp_path / "whole")
        assert len(open_source(str(target))) == 23


def test_error_of_the_writer_is_one_line(folder, tmp_path, monkeypatch):
    class Full:
        def __init__(self, *_): ...
        def write(self, _):
            raise RuntimeError("RESOURCE_EXHAUSTED: no\nspace")

        def close(self): ...

    monkeypatch.setattr(shard_folder, "ArrayRecordWriter", Full)
    with pytest.raises(InputError, match=r"cannot be written \(RESOURCE_EXHAUSTED: no space\)"):
        prepare(str(folder), tmp_path / "prepared", size=SIZE)


def test_names_of_too_many_images_are_not_kept(folder, tmp_path, monkeypatch):
    whole = prepare(str(folder), tmp_path / "whole", size=SIZE)
    monkeypatch.setattr(description, "MOST_NAMES", 22)
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE)
    assert about == whole | {"name_hashes": {}}
    assert len(open_source(str(tmp_path / "prepared"))) == 23
