"""Sorted names of files, in bounded memory however many they are."""

import heapq
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import IO, Any

import numpy as np

from avq.errors import InputError

CHUNK = 1 << 20  # names to hold at a time
BLOCK = 64  # names that are read together
READ = 1 << 14  # bytes of a run
END = b"\0"  # no name of a file contains it


def sorted_names(names: Iterable[str]) -> Sequence[str]:
    """Sorts names; from `CHUNK` of them on, on disk, where they stay in a temporary file.

    Raises:
        InputError: when the folder for temporary files cannot hold them.
    """
    names = iter(names)
    first = sorted(islice(names, CHUNK))
    if len(first) < CHUNK:
        return first
    runs = chain([first], iter(lambda: sorted(islice(names, CHUNK)), []))
    try:
        with tempfile.TemporaryFile() as spilled:
            ends = [0]
            for run in runs:
                spilled.writelines(_encoded(name) + END for name in run)
                ends.append(spilled.tell())
                run.clear()  # before the next is read
            spilled.flush()
            sorted_runs = (_run(spilled, *span) for span in pairwise(ends))
            return NamesOnDisk(heapq.merge(*sorted_runs))
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()!r} cannot hold the names of the images ({error.strerror}). "
            "Set TMPDIR to a folder with more space."
        ) from error


class NamesOnDisk(Sequence[str]):
    """Names in a temporary file, which is removed with the object that wrote it; pickled copies
    read it, too.

    Args:
        names: in UTF-8.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix="avq-names-")
        weakref.finalize(self, _remove, self._path, os.getpid())
        names, starts, self._count = iter(names), array("q", [0]), 0
        with open(descriptor, "wb") as file:
            while block := list(islice(names, BLOCK)):
                file.write(END.join(block))
                starts.append(file.tell())
                self._count += len(block)
        self._starts = np.array(starts, np.int64)
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._read: tuple[int, list[str]] = -1, []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_file", "_read")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(self._count)[index]]
        block, place = divmod(range(self._count)[index], BLOCK)
        number, names = self._read  # at once: another thread may replace it
        if number != block:
            start, stop = self._starts[block : block + 2].tolist()
            content = os.pread(self._file, stop - start, start)
            names = [_decoded(name) for name in content.split(END)]
            self._read = block, names
        return names[place]


def _run(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    """Yields the names that lie between two places of a file."""
    left = b""
    while start < stop:
        content = os.pread(file.fileno(), min(READ, stop - start), start)
        start += len(content)
        *names, left = (left + content).split(END)
        yield from names


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # in the order of the text, whatever it is


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # not one that was forked from it
        os.unlink(path)
