"""Local copies of objects."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from avq.errors import InputError
from avq.storage import cache
from avq.storage.objects import RemotePath


@pytest.fixture
def fetched(monkeypatch):
    """Names of the objects that were fetched."""
    get, names = RemotePath.get, []

    def counted(self, files):
        names.extend(files)
        get(self, files)

    monkeypatch.setattr(RemotePath, "get", counted)
    return names


def read(path):
    with cache.opened(path) as copy:
        return copy.read_text()


def copies():
    return [p for p in (cache.folder() / "objects").glob("??/*") if p.name != "lock"]


def test_a_local_file_is_opened_where_it_is(tmp_path):
    with cache.opened(tmp_path / "file") as path:
        assert path == tmp_path / "file"


def test_an_object_is_fetched_once_and_again_when_it_has_changed(bucket, fetched):
    (bucket / "a").write_text("one")
    assert [read(bucket / "a"), read(bucket / "a"), fetched] == ["one", "one", ["a"]]
    (bucket / "a").write_text("two")
    assert [read(bucket / "a"), fetched] == ["two", ["a", "a"]]


def test_threads_share_one_copy(bucket, fetched):
    (bucket / "a").write_text("one")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, [bucket / "a"] * 16)) == {"one"}
    assert fetched == ["a"]


def test_the_least_recently_used_copies_make_room(bucket, fetched, monkeypatch):
    monkeypatch.setenv(cache.LIMIT, str(3000 / 2**30))
    for number, name in enumerate("abc"):
        (bucket / name).write_text(1000 * name)
        read(bucket / name)
        os.utime(max(copies(), key=os.path.getmtime), (number, number))
    read(bucket / "a")  # is now the newest
    (bucket / "d").write_text(1000 * "d")
    read(bucket / "d")
    assert sum(copy.stat().st_size for copy in copies()) == 3000
    assert {copy.read_text()[0] for copy in copies()} == {"a", "c", "d"}


def test_a_copy_that_is_being_opened_stays(bucket, monkeypatch):
    monkeypatch.setenv(cache.LIMIT, str(1500 / 2**30))
    for name in "ab":
        (bucket / name).write_text(1000 * name)
    with cache.opened(bucket / "a") as copy:
        read(bucket / "b")
        assert copy.read_text() == 1000 * "a"


def test_an_object_that_comes_cut_off_is_not_kept(bucket, monkeypatch):
    def cut(self, files):
        for file in files.values():
            file.write_text("on")

    (bucket / "a").write_text("one")
    monkeypatch.setattr(RemotePath, "get", cut)
    with pytest.raises(InputError, match="changed while it was fetched"):
        read(bucket / "a")
    assert copies() == []


@pytest.mark.parametrize("text", ["much", "-1", "0", "nan", "inf"])
def test_a_bound_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv(cache.LIMIT, text)
    with pytest.raises(InputError, match=f"{cache.LIMIT}={text}"):
        cache.limit()


def test_long_fetching_is_told(bucket, monkeypatch, caplog):
    monkeypatch.setattr(cache, "TOLD_EVERY", 0.0)
    (bucket / "set/a").write_text("one")
    read(bucket / "set/a")
    assert "now memory://bucket/set/a" in caplog.text
