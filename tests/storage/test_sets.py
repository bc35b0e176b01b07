"""Prepared sets on object storage."""

import pickle
from pathlib import Path

import chex
import numpy as np
import pytest
from PIL import Image

from avq.apply.code_shards import read
from avq.apply.tokenize import tokenize
from avq.data import prepare as module
from avq.data.dataset import ImageSet, open_dataset
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.shard_folder import ShardFolder
from avq.data.sources import open_source
from avq.data.sources.prepared import prepared
from avq.errors import InputError
from avq.storage import cache
from avq.storage.objects import RemotePath, StorageError
from avq.tasks.prior_data import open_codes
from avq.workers import Worker

URL = "memory://bucket/set"
SIZE = 8


@pytest.fixture
def folder(tmp_path):
    """Twenty-two images of noise."""
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(22):
        pixels = rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02d}.png")
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "IMAGES_PER_SHARD", 4)


@pytest.fixture
def local(folder, tmp_path):
    """The same set in a folder, by name."""
    prepare(str(folder), tmp_path / "set", size=SIZE)
    return {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}


def objects(remote, folder):
    names = list(remote.files())
    remote.get({name: folder / name for name in names})
    return {name: (folder / name).read_bytes() for name in names}


def test_the_objects_are_the_files_of_a_folder(bucket, folder, local, tmp_path):
    prepare(str(folder), bucket / "set", size=SIZE)
    assert objects(bucket / "set", tmp_path / "got") == local


def test_an_interrupted_set_is_continued_to_the_same_objects(
    bucket, folder, local, tmp_path, monkeypatch
):
    put, done = RemotePath.put, list[str]()

    def put_counted(self, files):
        done.extend(files)
        put(self, files)

    def put_some(self, files):
        if len(done) == 5:
            raise StorageError("the server is gone")
        put_counted(self, files)

    with monkeypatch.context() as patch:
        patch.setattr(RemotePath, "put", put_some)
        with pytest.raises(InputError, match="the server is gone"):
            prepare(str(folder), bucket / "set", size=SIZE)
    with pytest.raises(InputError, match="is not finished"):
        prepared(URL)
    with pytest.raises(InputError, match="begun with another size"):
        prepare(str(folder), bucket / "set", size=2 * SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(RemotePath, "put", put_counted)
        prepare(str(folder), bucket / "set", size=SIZE)
    assert len(done) == len(set(done)) + 1  # of what was there, but for the shard without its note
    assert objects(bucket / "set", tmp_path / "got") == local


def test_workers_fill_it_to_the_same_objects(bucket, folder, local, tmp_path):
    with pytest.raises(InputError, match="shards are missing"):
        prepare(str(folder), bucket / "set", size=SIZE, finish=True)
    for index in (1, 0, 1):
        prepare(str(folder), bucket / "set", size=SIZE, worker=Worker(index, 2))
    prepare(str(folder), bucket / "set", size=SIZE, finish=True)
    prepare(str(folder), bucket / "set", size=SIZE, finish=True)
    assert objects(bucket / "set", tmp_path / "got") == local


def test_of_two_that_begin_at_once_with_other_settings_one_is_refused(bucket, folder, monkeypatch):
    create = RemotePath.create

    def create_late(self, text):
        with monkeypatch.context() as patch:
            patch.setattr(RemotePath, "create", create)
            prepare(str(folder), bucket / "set", size=2 * SIZE, worker=Worker(0, 2))
        return create(self, text)

    monkeypatch.setattr(RemotePath, "create", create_late)
    with pytest.raises(InputError, match="begun with another size"):
        prepare(str(folder), bucket / "set", size=SIZE)


def test_a_shard_that_is_gone_is_missed_at_the_end(bucket, folder, monkeypatch):
    keep = ShardFolder.keep

    def keep_and_lose_the_first(self, shard, note):
        if shard.file.startswith("train-00000"):
            (bucket / "set" / shard.file).unlink()
        keep(self, shard, note)

    monkeypatch.setattr(ShardFolder, "keep", keep_and_lose_the_first)
    with pytest.raises(InputError, match="lacks train-00000-of"):
        prepare(str(folder), bucket / "set", size=SIZE)
    assert not (bucket / "set/dataset.json").is_file()


def test_a_run_reads_the_images_of_the_folder(bucket, folder, tmp_path):
    prepare(str(folder), tmp_path / "set", size=SIZE)
    prepare(str(folder), bucket / "set", size=SIZE)
    there, here = (
        open_dataset(Data(path=path, image_size=SIZE, batch_size=2))
        for path in (URL, str(tmp_path / "set"))
    )
    assert there.summary == here.summary
    again = pickle.loads(pickle.dumps(there.train.source))
    for row in reversed(range(len(here.train))):
        np.testing.assert_array_equal(there.train[row], here.train[row])
        np.testing.assert_array_equal(again[row], here.train[row])


def test_shards_come_when_they_are_read(bucket, folder):
    prepare(str(folder), bucket / "set", size=SIZE)
    source = open_source(URL)
    assert not list(cache.folder().glob("objects/*/*"))
    source[0]
    (copy,) = [p for p in cache.folder().glob("objects/*/*") if p.name != "lock"]
    source[len(source) - 1]
    assert copy.exists()


def test_storage_that_fails_is_no_unreadable_image(bucket, folder):
    prepare(str(folder), bucket / "set", size=SIZE)
    images = ImageSet(open_source(URL))
    (bucket / "set/train-00000-of-00004.array_record").unlink()
    with pytest.raises(InputError, match="no such object"):
        images[0]
    assert not images.rejected


def test_a_cache_that_is_smaller_than_the_set_is_told(bucket, folder, monkeypatch, caplog):
    prepare(str(folder), bucket / "set", size=SIZE)
    pixels = 22 * SIZE * SIZE * 3
    for limit, told in ((pixels, False), (pixels - 1, True)):
        monkeypatch.setenv(cache.LIMIT, str(limit / 2**30))
        open_source(URL)
        assert ("more than" in caplog.text) == told


@pytest.mark.parametrize("name", ["set", "set/images.zip"])
def test_what_is_no_prepared_set_is_refused(bucket, name):
    (bucket / "set/images.zip").write_text("")
    with pytest.raises(InputError, match="no set that avq prepare has filled"):
        open_source(f"memory://bucket/{name}")


def test_the_command_takes_a_url(bucket, folder, invoke):
    result = invoke("prepare", folder, URL, f"--size={SIZE}", "--workers=1")
    assert result.exit_code == 0
    assert f"{URL}: 16 training and 6 test images" in result.output
    assert f"--config.data.path={URL}" in result.output


def test_codes_of_a_set_are_written_and_read(bucket, image_folder, tokenizer, tmp_path):
    tokenize(tokenizer, str(image_folder), tmp_path / "codes")
    tokenize(tokenizer, str(image_folder), Path("memory:/bucket/codes"))
    here, there = (read(f, "train") for f in (tmp_path / "codes", "memory://bucket/codes"))
    assert not list(cache.folder().glob("objects/*/*"))
    chex.assert_trees_all_equal(here.arrays(), there.arrays())
    codes = open_codes("memory://bucket/codes", tokenizer, tmp_path)
    assert str(codes) == "memory://bucket/codes"
