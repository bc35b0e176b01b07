"""URLs, and objects behind them."""

import errno
from pathlib import Path

import pytest

from avq.errors import InputError
from avq.lock import locked
from avq.storage import objects
from avq.storage.objects import RemotePath, at, is_remote


@pytest.mark.parametrize(
    "text", ["memory://bucket/a/b", "memory:/bucket/a/b", "memory://bucket/a/b/"]
)
def test_a_url_is_known_also_as_path_writes_it(bucket, text):
    assert at(text) == at(Path(text)) == bucket / "a" / "b"
    assert str(at(text)) == "memory://bucket/a/b"


@pytest.mark.parametrize("text", ["runs/ah", "/abs/s3://x", "C:/data", "faces.zip", "photographs"])
def test_other_paths_are_local(text):
    assert at(text) == Path(text)
    assert not is_remote(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("azure://bucket/set", "'azure://bucket/set': avq knows s3:// and gs://"),
        ("http:/host/set", "'http://host/set': avq knows s3:// and gs://"),
        ("memory://", "names no bucket"),
        ("memory://bucket/../other", "no plain name"),
        ("memory://bucket//set", "no plain name"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(bucket, text, words):
    with pytest.raises(InputError, match=words) as caught:
        at(text)
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(objects.SCHEMES, "s3", "package_that_nobody_has")
    with pytest.raises(InputError, match=r"pip install 'avq\[storage\]'"):
        at("s3://bucket/set")


def test_an_object_is_listed_read_and_removed(bucket):
    (bucket / "a/x").write_text("12345")
    (bucket / "a/b/y").write_text("1")
    (bucket / "ab").write_text("of a name that only begins alike")
    sizes = {name: entry.size for name, entry in (bucket / "a").files().items()}
    assert sizes == {"x": 5, "b/y": 1}
    assert (bucket / "a/x").is_file()
    assert not (bucket / "a").is_file()
    assert (bucket / "a/x").read_text() == "12345"
    (bucket / "a/x").unlink()
    (bucket / "a/x").unlink()
    assert list((bucket / "a").files()) == ["b/y"]


def test_names_that_would_leave_a_folder_are_not_listed(bucket, monkeypatch):
    class Store:
        def find(self, key, detail):
            names = ("ok", "../up", "a/../../up", "a//b", "./a")
            return {f"{key}/{name}": {"size": 1} for name in names}

    monkeypatch.setattr(RemotePath, "_store", Store())
    assert list(bucket.files()) == ["ok"]


def test_an_object_is_created_once(bucket):
    assert (bucket / "a").create("first")
    assert not (bucket / "a").create("second")
    assert (bucket / "a").read_text() == "first"


def raised(name, base, text):
    return type(name, (base,), {})(text)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("The specified bucket does not exist"), "there is no bucket 'bucket'"),
        (FileNotFoundError("bucket/a"), "there is no such object"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk here is full"),
        (PermissionError("Forbidden"), r"access is refused \(Forbidden\)"),
        (raised("NoCredentialsError", Exception, "Unable"), "no credentials"),
        (raised("DefaultCredentialsError", Exception, "Unable"), "no credentials"),
        (raised("EndpointConnectionError", Exception, "url"), r"cannot be reached \(url\)"),
        (raised("HttpError", Exception, "two\nlines\n"), r"the store fails \(two lines\)"),
    ],
)
def test_what_a_store_raises_becomes_one_line(bucket, monkeypatch, error, words):
    class Store:
        def __getattr__(self, name):
            def fail(*_, **__):
                raise error

            return fail

    monkeypatch.setattr(RemotePath, "_store", Store())
    with pytest.raises(InputError, match=words) as caught:
        (bucket / "a").read_text()
    assert "\n" not in str(caught.value)
    assert "memory://bucket/a" in str(caught.value)
    if "bucket does not exist" in str(error):
        with pytest.raises(InputError, match=words):
            (bucket / "a").is_file()


def test_a_folder_that_needs_a_lock_is_refused_there():
    with (
        pytest.raises(InputError, match="'s3://bucket/study' is a URL"),
        locked(Path("s3://bucket/study")),
    ):
        pass
