"""One process at a time in a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avq.errors import InputError

NAME = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it for this process. The system lets go of it when the process ends,
    however it ends.

    Raises:
        InputError: when another process holds it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / NAME).open("a+")
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(
                f"{str(folder)!r} is in use by {file.read().strip() or 'another process'}. "
                "Wait for it or stop it, or give another folder."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
