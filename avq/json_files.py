"""Files that are replaced in one step, and JSON on disk."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avq.errors import InputError
from avq.storage.objects import AnyPath, RemotePath, move


def read_json(path: AnyPath) -> Any:
    """The content of a JSON file, or None when there is no such file.

    Raises:
        InputError: when it holds no JSON.
    """
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise InputError(f"{str(path)!r} is damaged: {error}. Put back a copy.") from error


def write_json(path: AnyPath, value: Any) -> None:
    """Replaces a JSON file in one step."""
    with replaced(path) as new:
        new.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def replaced(path: AnyPath) -> Iterator[Path]:
    """A path beside a file, which replaces it in one step at the end, so that the file is never
    seen half-written. A link or a device, such as /dev/stdout, is written to as it is.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, path.name)
            move(Path(folder, path.name), path)
        return
    new = _beside(path)
    yield new
    if new != path:
        os.replace(new, path)


def probe(path: Path) -> None:
    """Tries whether `replaced` can write a file; leaves no trace.

    Raises:
        OSError: when it cannot.
    """
    new = _beside(path)
    with new.open("ab"):
        pass
    if new != path:
        new.unlink()


def _beside(path: Path) -> Path:
    special = path.is_symlink() or (path.exists() and not path.is_file())
    return path if special else path.with_name(path.name + ".new")
