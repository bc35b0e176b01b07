"""Objects on S3 and Google Cloud Storage by their URLs, with `pathlib`'s names where it has them.

An object is put in one step and never seen half-written. There are no folders and no locks, and
nothing can be appended to or renamed.
"""

import errno
import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from avq.errors import InputError

# Packages that fsspec opens a scheme with.
SCHEMES = {"s3": "s3fs", "gs": "gcsfs"}
# `Path` makes one slash of two.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.*)", re.DOTALL)
# Exceptions of botocore, aiohttp and google-auth, which are not imported for them.
NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "RefreshError",
}
NO_SERVER = {"EndpointConnectionError", "ConnectionError", "ClientConnectionError", "TimeoutError"}
OBJECT, BUCKET = "object", "bucket"  # what may be missing


class StorageError(InputError):
    """Object storage does not do what is asked; the message is one line."""


@dataclass(frozen=True)
class Entry:
    """An object as a listing has it.

    Attributes:
        size: bytes.
        version: changes with its content.
    """

    size: int
    version: str


@dataclass(frozen=True)
class RemotePath:
    """An object, or all objects whose names begin alike, as a folder.

    Attributes:
        scheme: a key of `SCHEMES`.
        key: bucket and name, without slashes at the ends.

    Every method raises `StorageError` when the bucket is missing, access is refused or the server
    cannot be reached.
    """

    scheme: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.scheme, f"{self.key}/{name}")

    @property
    def name(self) -> str:
        """Last part of the name."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """What is before the last part of the name."""
        return RemotePath(self.scheme, self.key.rpartition("/")[0])

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        with self._reported(), _absent():
            return bool(self._store.info(self.key)["type"] == "file")
        return False

    def entry(self) -> Entry:
        """Size and version of an object.

        Raises:
            StorageError: also when there is no such object.
        """
        with self._reported():
            return _entry(self._store.info(self.key))

    def files(self) -> dict[str, Entry]:
        """Objects below this name, by the rest of their names, without names that would leave a
        folder, such as '../x'.
        """
        with self._reported(BUCKET):
            found = self._store.find(self.key, detail=True)
        below = f"{self.key}/"
        names = {name.lstrip("/"): about for name, about in found.items()}
        entries = {
            n.removeprefix(below): _entry(a) for n, a in names.items() if n.startswith(below)
        }
        return {name: entry for name, entry in entries.items() if is_inside(name)}

    def read_text(self) -> str:
        """Content of an object as text."""
        with self._reported():
            content: bytes = self._store.cat_file(self.key)
        return content.decode()

    def write_text(self, text: str) -> None:
        """Puts an object."""
        with self._reported(BUCKET):
            self._store.pipe_file(self.key, text.encode())

    def create(self, text: str) -> bool:
        """Puts an object, unless there is one; of several processes one succeeds.

        Returns:
            Whether this one has.
        """
        try:
            with self._reported(BUCKET):
                self._store.pipe_file(self.key, text.encode(), mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, files: Mapping[str, Path]) -> None:
        """Puts files below this name, by the rest of their names, several at once."""
        if not files:
            return
        with self._reported():
            self._store.put(
                [os.fspath(file) for file in files.values()],
                [f"{self.key}/{name}" for name in files],
            )

    def get(self, files: Mapping[str, Path]) -> None:
        """Gets objects below this name into files, by the rest of their names, several at once."""
        if not files:
            return
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        with self._reported():
            self._store.get(
                [f"{self.key}/{name}" for name in files],
                [os.fspath(file) for file in files.values()],
            )

    def unlink(self) -> None:
        """Removes an object, if there is one."""
        with self._reported(), _absent():
            self._store.rm_file(self.key)

    def remove(self, names: Sequence[str]) -> None:
        """Removes objects below this name, several at once."""
        if names:
            with self._reported(), _absent():
                self._store.rm([f"{self.key}/{name}" for name in names])

    @property
    def _store(self) -> Any:
        """fsspec's file system, which is one a process and not to be kept over a fork."""
        import fsspec

        return fsspec.filesystem(self.scheme, use_listings_cache=False)

    @contextmanager
    def _reported(self, missing: str = OBJECT) -> Iterator[None]:
        """Turns errors of a store into one line.

        Args:
            missing: what is not there when the store says that something is not; S3 says it of a
                bucket by itself.
        """
        try:
            yield
        except (FileExistsError, InputError):
            raise
        except Exception as error:  # every store has exceptions of its own
            if isinstance(error, FileNotFoundError) and (missing == BUCKET or _names_bucket(error)):
                bucket = self.key.partition("/")[0]
                reason = f"there is no bucket {bucket!r}. Make it first, or give another."
            else:
                reason = _reason(error)
            raise StorageError(f"{str(self)!r}: {reason}") from error


AnyPath: TypeAlias = Path | RemotePath


def at(path: str | os.PathLike[str] | RemotePath) -> AnyPath:
    """A local path, or one on object storage.

    Raises:
        InputError: for an unknown scheme, a URL without a bucket, or without the package that opens
            it.
    """
    if isinstance(path, RemotePath):
        return path
    match = URL.fullmatch(os.fspath(path))
    if match is None:
        return Path(path)
    scheme, key = match[1].lower(), match[2].strip("/")
    url = f"{scheme}://{key}"
    if scheme not in SCHEMES:
        known = " and ".join(f"{known}://" for known in SCHEMES)
        raise InputError(f"{url!r}: avq knows {known}. Give one of these, or a folder.")
    if not key or not is_inside(key):
        raise InputError(
            f"{url!r} names no bucket, or is no plain name. Give {scheme}://BUCKET/NAME."
        )
    try:
        importlib.import_module(SCHEMES[scheme])
    except ImportError:
        raise InputError(
            f"{url!r}: object storage needs {SCHEMES[scheme]}. Run: pip install 'avq[storage]'"
        ) from None
    return RemotePath(scheme, key)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL."""
    return URL.fullmatch(os.fspath(path)) is not None


def require_local(path: Path) -> None:
    """Refuses a URL where a file or folder is to be written.

    Raises:
        InputError: naming it.
    """
    if match := URL.fullmatch(os.fspath(path)):
        raise InputError(
            f"'{match[1]}://{match[2]}' is a URL, and avq writes nothing but prepared sets, codes "
            "and runs to object storage. Give a local path."
        )


def is_inside(name: str) -> bool:
    """Whether a relative name stays below the folder that it is joined to."""
    parts = name.split("/")
    return not PurePosixPath(name).is_absolute() and not {"", ".", ".."} & set(parts)


def missing(folder: AnyPath, names: Iterable[str]) -> list[str]:
    """The names below a folder, or on object storage below a URL, that are no files. There, one
    listing says it of all.
    """
    if isinstance(folder, RemotePath):
        there = folder.files()
        return [name for name in names if name not in there]
    return [name for name in names if not (folder / name).is_file()]


def move(file: Path, to: AnyPath) -> None:
    """Gives a local file its final place in one step."""
    if isinstance(to, RemotePath):
        to.parent.put({to.name: file})
        file.unlink()
    else:
        os.replace(file, to)


def _entry(about: Mapping[str, Any]) -> Entry:
    marks = (about.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "created"))
    return Entry(int(about["size"]), str(next((mark for mark in marks if mark), "")))


@contextmanager
def _absent() -> Iterator[None]:
    """Passes over an object that is not there, but not over a bucket."""
    try:
        yield
    except FileNotFoundError as error:
        if _names_bucket(error):
            raise


def _names_bucket(error: Exception) -> bool:
    return "bucket does not exist" in str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk here is full. Free some space, or set AVQ_CACHE to a folder on another."
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, FileNotFoundError):
        return "there is no such object. Give another, or put it back."
    if kinds & NO_CREDENTIALS:
        return "no credentials were found. Set those of the store, such as AWS_ACCESS_KEY_ID."
    if isinstance(error, PermissionError):
        return f"access is refused ({_line(error)}). Check the credentials and their rights."
    if kinds & NO_SERVER:
        return f"the server cannot be reached ({_line(error)}). Try again, or check its address."
    return f"the store fails ({_line(error)})."


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:150].rstrip(" .")
