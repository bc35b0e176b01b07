"""Local copies of objects, in a folder of bounded size that processes share.

`AVQ_CACHE` is the folder (default `~/.cache/avq`) and `AVQ_CACHE_GIB` the bound (default 64). The
copies that were not used for longest are removed first.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from avq.errors import InputError
from avq.lock import NAME as LOCK
from avq.lock import InUse, locked
from avq.storage.objects import AnyPath, RemotePath, StorageError

log = logging.getLogger("avq")

FOLDER, LIMIT = "AVQ_CACHE", "AVQ_CACHE_GIB"
DEFAULT_GIB = 64.0
TOLD_EVERY = 10.0  # seconds of fetching


def folder() -> Path:
    """Folder of everything that is kept of object storage."""
    return Path(os.environ.get(FOLDER) or "~/.cache/avq").expanduser()


def limit() -> int:
    """Bytes that copies may take.

    Raises:
        InputError: for a bound that is no number above 0.
    """
    text = os.environ.get(LIMIT) or str(DEFAULT_GIB)
    try:
        gib = float(text)
    except ValueError:
        gib = 0.0
    if not 0 < gib < 2**30:
        raise InputError(f"{LIMIT}={text} is no size in GiB. Give a number above 0.")
    return int(gib * 2**30)


@contextmanager
def opened(path: AnyPath) -> Iterator[Path]:
    """A local file with the content of a path, which may be removed once this ends: open it inside.

    Raises:
        StorageError: when there is no such object, or it cannot be fetched.
        InputError: when the cache cannot be written.
    """
    if isinstance(path, Path):
        yield path
        return
    entry = path.entry()
    name = hashlib.sha256(f"{path} {entry.version} {entry.size}".encode()).hexdigest()
    copies = folder() / "objects"
    with locked(copies / name[:2], wait=True):  # of processes and threads, one fetches
        copy = copies / name[:2] / name
        if not copy.exists():
            _make_room(copies, entry.size)
            _fetch(path, entry.size, copy)
        with suppress(OSError):
            os.utime(copy)
        yield copy


def _fetch(path: RemotePath, size: int, copy: Path) -> None:
    part = copy.with_name(f"{copy.name}.part")
    try:
        with progress.fetching(path, [size]):
            path.parent.get({path.name: part})
        if part.stat().st_size != size:
            raise StorageError(f"{str(path)!r} changed while it was fetched. Try again.")
        os.replace(part, copy)
    finally:
        part.unlink(missing_ok=True)


def _make_room(copies: Path, size: int) -> None:
    """Removes copies, least recently used first, until another fits. One that a process is about to
    open stays; of one that it has open the system keeps the content.
    """
    found = []
    for file in copies.glob("??/*"):
        with suppress(FileNotFoundError):
            if file.name != LOCK:
                found.append((file.stat().st_mtime, file.stat().st_size, file))
    excess = sum(bytes_ for _, bytes_, _ in found) + size - limit()
    for _, bytes_, file in sorted(found):
        if excess <= 0:
            return
        with suppress(InUse, FileNotFoundError), locked(file.parent):
            file.unlink()
            excess -= bytes_


class Progress:
    """Says, every `TOLD_EVERY` seconds of fetching, how much was fetched."""

    def __init__(self) -> None:
        self._files = self._bytes = 0
        self._untold = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def fetching(self, path: RemotePath, sizes: Sequence[int]) -> Iterator[None]:
        """Counts the time spent inside, and then what was fetched.

        Args:
            path: of the objects, or of their folder.
            sizes: of each, in bytes.
        """
        began = time.monotonic()
        yield
        with self._lock:
            self._untold += time.monotonic() - began
            self._files, self._bytes = self._files + len(sizes), self._bytes + sum(sizes)
            if self._untold > TOLD_EVERY:
                self._untold = 0.0
                done = self._files, self._bytes / 1e9, path
                log.warning("fetched %d files, %.2f GB, so far; now %s", *done)


progress = Progress()
