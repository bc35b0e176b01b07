"""JSON on disk."""

import json
import os
from pathlib import Path
from typing import Any

from avq.errors import InputError


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None when there is no such file.

    Raises:
        InputError: when it holds no JSON.
    """
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise InputError(f"{str(path)!r} is damaged: {error}. Put back a copy.") from error


def write_json(path: Path, value: Any) -> None:
    """Replaces a JSON file in one step, so that it is never seen half-written."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(new, path)
