"""One process at a time in a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from avq.errors import InputError
from avq.storage.objects import require_local

NAME = "lock"


class InUse(InputError):
    """Another process holds the folder."""


@contextmanager
def locked(folder: Path, *, wait: bool = False, shared: bool = False) -> Iterator[TextIO]:
    """Makes a folder and holds it for this process, and for those that inherit the open file. The
    system lets go of it when the last of them ends, however it ends.

    Args:
        folder: to hold.
        wait: whether to wait for another process that holds it.
        shared: whether others may hold it, too, if they share it likewise.

    Yields:
        The open file.

    Raises:
        InUse: when another process holds it.
        InputError: when it cannot be written to, or is on a disk without locks.
    """
    require_local(folder)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / NAME).open("a+")
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            raise InUse(
                f"{str(folder)!r} is in use by {file.read().strip() or 'another process'}. "
                "Wait for it or stop it, or give another folder."
            ) from error
        except OSError as error:
            raise InputError(
                f"{str(folder)!r} cannot be locked ({error.strerror}). Give a folder on a disk "
                "with file locks."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield file
