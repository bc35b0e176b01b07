"""Local copies of runs on object storage.

A checkpoint there is whole when it has `whole.json`, the list of its files, which is put last. That
one of them is missing or damaged shows when the checkpoint is restored, as on a disk.
"""

import atexit
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avq.errors import InputError
from avq.json_files import read_json, write_json
from avq.lock import NAME as LOCK
from avq.lock import InUse, locked
from avq.storage import cache
from avq.storage.objects import Entry, RemotePath, StorageError, at

CHECKPOINTS, STATE = "checkpoints", "state/"
WHOLE, OWNER, ORIGIN, FETCHING = "whole.json", "owner.json", ".origin.json", ".fetching"
CHECKPOINT = re.compile(rf"{CHECKPOINTS}/(\d+)/(.*)")
# Not fetched: what nothing reads, and what is not whole.
UNREAD = re.compile(r"(samples|profile|damaged|checkpoints)/.*|events\..*|owner\.json|\..*")


def local(what: str | os.PathLike[str]) -> Path:
    """A local path, or a local copy of a run on object storage, without the arrays of its
    checkpoints, which `complete` fetches. Kept until the process ends.

    Raises:
        InputError: for a URL that cannot be read, or has nothing.
    """
    place = at(what)
    if isinstance(place, Path):
        return place
    if place not in _copies:
        stack = ExitStack()
        _copies[place] = stack.enter_context(temporary(place))
        atexit.register(stack.close)
    pull(place, _copies[place])
    if not read_json(_copies[place] / ORIGIN)["files"]:
        raise InputError(f"{str(place)!r}: there is no run. Give the --workdir of a training run.")
    return _copies[place]


_copies: dict[RemotePath, Path] = {}


def pull(remote: RemotePath, folder: Path) -> set[int]:
    """Fills a folder with what is read of a run, but for the arrays of its checkpoints.

    Args:
        remote: the run.
        folder: empty, or filled before.

    Returns:
        Steps of the whole checkpoints.

    Raises:
        StorageError: when it cannot be read.
    """
    files = remote.files()
    checkpoints = _whole(remote, files)
    wanted = {name: [e.size, e.version] for name, e in files.items() if _is_read(name, checkpoints)}
    for name, state in (read_json(folder / ORIGIN) or {"files": {}})["files"].items():
        if wanted.get(name) != state:
            (folder / name).unlink(missing_ok=True)
    for step in steps(folder) - checkpoints.keys():
        shutil.rmtree(folder / CHECKPOINTS / str(step))
    for step in checkpoints:
        (folder / CHECKPOINTS / str(step)).mkdir(parents=True, exist_ok=True)
    write_json(folder / ORIGIN, {"url": str(remote), "files": wanted})
    _fetch(remote, folder, [name for name in wanted if not _is_array(name)])
    return set(checkpoints)


def complete(run: Path, step: int) -> None:
    """Fetches what is left out of a checkpoint in the local copy of a run; does nothing for a run
    in a folder.

    Raises:
        StorageError: when it cannot be fetched.
    """
    origin = read_json(run / ORIGIN)
    if origin is not None:
        remote, below = at(origin["url"]), f"{CHECKPOINTS}/{step}/"
        assert isinstance(remote, RemotePath)
        with locked(run / FETCHING, wait=True):  # of the processes of a run, one fetches
            _fetch(remote, run, [name for name in origin["files"] if name.startswith(below)])


def put_back(copy: Path, name: str) -> None:
    """Puts a file that was written into the local copy of a run where the run is; does nothing for
    a run in a folder.

    Raises:
        StorageError: when it cannot be put.
    """
    origin = read_json(copy / ORIGIN)
    if origin is not None:
        remote = at(origin["url"])
        assert isinstance(remote, RemotePath)
        remote.put({name: copy / name})


def _fetch(remote: RemotePath, folder: Path, names: Sequence[str]) -> None:
    """Fetches the files that are not there."""
    files = read_json(folder / ORIGIN)["files"]
    sizes = {name: files[name][0] for name in names}
    missing = [name for name in names if not _has_size(folder / name, sizes[name])]
    with cache.progress.fetching(remote, [sizes[name] for name in missing]):
        remote.get({name: folder / name for name in missing})
    for name in missing:  # a file that grows may have another size by now
        if CHECKPOINT.fullmatch(name) and not _has_size(folder / name, sizes[name]):
            raise StorageError(f"{str(remote / name)!r} changed while it was fetched. Try again.")


def _has_size(file: Path, size: int) -> bool:
    return file.exists() and file.stat().st_size == size


def _whole(remote: RemotePath, files: Mapping[str, Entry]) -> dict[int, set[str]]:
    """Files of every checkpoint that has its mark, by step."""
    checkpoints = {}
    for name in files:
        match = CHECKPOINT.fullmatch(name)
        if match and match[2] == WHOLE:
            with suppress(TypeError, ValueError):  # a damaged mark is none
                checkpoints[int(match[1])] = set(json.loads((remote / name).read_text()))
    return checkpoints


def _is_read(name: str, checkpoints: Mapping[int, set[str]]) -> bool:
    if match := CHECKPOINT.fullmatch(name):
        return match[2] in checkpoints.get(int(match[1]), ())
    return not UNREAD.fullmatch(name)


def _is_array(name: str) -> bool:
    match = CHECKPOINT.fullmatch(name)
    return match is not None and match[2].startswith(STATE)


def steps(folder: Path) -> set[int]:
    """Steps of the whole checkpoints of a local folder."""
    return {int(p.name) for p in (folder / CHECKPOINTS).glob("*") if p.name.isdecimal()}


def files_below(folder: Path) -> dict[str, Path]:
    """Files below a folder by their relative names."""
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


@contextmanager
def temporary(remote: RemotePath) -> Iterator[Path]:
    """A folder for a run, removed at the end; those of processes that were killed are, too."""
    runs = cache.folder() / "runs"
    with ExitStack() as stack:
        with locked(runs, wait=True):
            for left in runs.iterdir():
                if left.name != LOCK:
                    with suppress(InUse, InputError), locked(left):
                        shutil.rmtree(left, ignore_errors=True)
            own = runs / uuid.uuid4().hex
            stack.enter_context(locked(own))
        folder = own / remote.scheme / remote.key
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(own, ignore_errors=True)
