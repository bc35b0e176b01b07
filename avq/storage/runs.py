"""Training of runs on object storage, in a local folder whose content is put there as it changes.

A checkpoint is put file by file, its mark last, see `avq.storage.copies`. `owner.json` names the
process that trains: one that is started later takes the run over.
"""

import json
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from avq.errors import InputError
from avq.hosts import exit_if_gone, is_main_process
from avq.lock import locked
from avq.storage import cache
from avq.storage.copies import CHECKPOINTS, OWNER, WHOLE, files_below, pull, steps, temporary
from avq.storage.objects import RemotePath, StorageError, at

PUT_EVERY = 2.0  # seconds
MAX_PATH = 4096  # bytes
# Not put as it is: checkpoints, and what is of this process alone.
OWN = re.compile(r"checkpoints/.*|.*\.new|lock|(.*/)?\..*")


class NotPut(OSError):
    """A run could not be put on object storage, or another process has taken it over."""


class RunFolder:
    """The folder in which a run is trained.

    Attributes:
        folder: a local one.
        name: the run's path or URL.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def held(self) -> AbstractContextManager[Any]:
        """Holds the run for this process alone.

        Raises:
            InputError: when another process holds it, or it cannot be written to.
        """
        return locked(self.folder)

    def require_put(self) -> None:
        """Looks, without waiting, whether what was written is where it belongs: in a folder, at
        once.
        """


class RemoteRun(RunFolder):
    """The local folder of a run on object storage.

    Args:
        remote: the run.
        folder: empty; filled with what is read of the run.
    """

    def __init__(self, remote: RemotePath, folder: Path) -> None:
        super().__init__(folder, str(remote))
        self._remote, self._id = remote, uuid.uuid4().hex
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._checkpoints = pull(remote, folder)
        self._put = self._states()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Takes the run over from a process that was started before, and puts what changes in the
        folder while this lasts.

        Raises:
            StorageError: when the run cannot be written to.
            NotPut: at the end, as `put`.
        """
        about = {"id": self._id, "process": os.getpid(), "host": socket.gethostname()}
        (self._remote / OWNER).write_text(json.dumps(about))
        self._remove_unfinished()
        thread = threading.Thread(target=self._put_regularly, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            with suppress(NotPut):  # the first error is the one to report
                self._end(thread)
            raise
        self._end(thread)

    def _end(self, thread: threading.Thread) -> None:
        self._stop.set()
        thread.join()
        self.put()

    def _put_regularly(self) -> None:
        while not self._stop.wait(PUT_EVERY):
            try:
                self.put()
            except Exception as error:
                self._failure = error
                return

    def require_put(self) -> None:
        """Raises what kept the folder's content from being put."""
        if self._failure is not None:
            raise self._failure

    def put(self) -> None:
        """Puts files that changed, then checkpoints that are new, and removes those that are no
        longer kept.

        Raises:
            NotPut: when another process has taken the run over, or it cannot be written to.
        """
        try:
            self._require_owner()
            kept = steps(self.folder)
            self._put_files()  # with the records of these steps, which a resumed run needs
            for step in sorted(kept - self._checkpoints):
                self._put_checkpoint(step)
            for step in sorted(self._checkpoints - kept):
                self._remove_checkpoint(step)
        except StorageError as error:
            raise NotPut(
                f"could not save to {error} The same command continues from the newest checkpoint "
                "that is there."
            ) from error

    def _require_owner(self) -> None:
        owner = json.loads((self._remote / OWNER).read_text())
        if owner.get("id") != self._id:
            raise NotPut(
                f"{self.name!r} was taken over by process {owner.get('process')} on "
                f"{owner.get('host')}, which was started later. Let one of them train."
            )

    def _put_files(self) -> None:
        states = self._states()
        changed = [name for name, state in states.items() if self._put.get(name) != state]
        try:
            self._remote.put({name: self.folder / name for name in changed})
        except StorageError:
            if all((self.folder / name).exists() for name in changed):
                raise
            return self._put_files()  # one was removed meanwhile
        self._remote.remove(list(self._put.keys() - states.keys()))
        self._put = states
        return None

    def _states(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that is put as it is, by name."""
        states = {}
        for name, file in files_below(self.folder).items():
            with suppress(FileNotFoundError):
                if not OWN.fullmatch(name):
                    states[name] = file.stat().st_size, file.stat().st_mtime_ns
        return states

    def _put_checkpoint(self, step: int) -> None:
        local, remote = self.folder / CHECKPOINTS / str(step), self._checkpoint(step)
        files = files_below(local)
        try:
            remote.put(files)
        except StorageError:
            if local.exists():
                raise
            return  # no longer kept
        (remote / WHOLE).write_text(json.dumps(list(files)))
        self._checkpoints.add(step)

    def _remove_checkpoint(self, step: int) -> None:
        remote = self._checkpoint(step)
        (remote / WHOLE).unlink()
        remote.remove(list(remote.files()))
        self._checkpoints.discard(step)

    def _remove_unfinished(self) -> None:
        """Removes what a process that was killed has put of a checkpoint."""
        checkpoints, whole = self._remote / CHECKPOINTS, set(map(str, self._checkpoints))
        names = checkpoints.files()
        checkpoints.remove([name for name in names if name.partition("/")[0] not in whole])

    def _checkpoint(self, step: int) -> RemotePath:
        return self._remote / CHECKPOINTS / str(step)


@contextmanager
def run_folder(workdir: str) -> Iterator[RunFolder]:
    """The folder in which a run is trained; all its processes call this.

    Args:
        workdir: of the run, a local path or a URL.

    Raises:
        InputError: for a URL that cannot be read, or when a process does not see the folder.
    """
    place = at(workdir)
    if isinstance(place, Path):
        yield RunFolder(place, str(place))
        return
    if jax.process_count() == 1:
        with temporary(place) as folder:
            yield RemoteRun(place, folder)
        return
    with temporary(place) if is_main_process() else nullcontext() as own:
        main = None if own is None else RemoteRun(place, own)
        folder = Path(_told(str(own or "")))
        if not folder.is_dir():
            raise InputError(
                f"{workdir!r}: this process does not see {str(folder)!r}, where process 0 keeps "
                f"the run while it is trained. Set {cache.FOLDER} to a folder that all of them see."
            )
        yield main or RunFolder(folder, str(place))
        try:
            multihost_utils.sync_global_devices("end")  # process 0 removes the folder
        except Exception as error:
            exit_if_gone(error)
            raise


def _told(text: str) -> str:
    """What process 0 says to all."""
    letters = np.zeros(MAX_PATH, np.uint8)
    own = np.frombuffer(text.encode(), np.uint8)
    letters[: len(own)] = own
    told = np.asarray(multihost_utils.broadcast_one_to_all(letters))
    return told.tobytes().rstrip(b"\0").decode()
