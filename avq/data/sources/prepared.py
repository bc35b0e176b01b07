"""Folders that `avq prepare` has filled: ArrayRecord shards and `dataset.json`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avq.data.settings import Data
from avq.data.sources.shards import ArrayRecords
from avq.errors import InputError

DESCRIPTION, UNFINISHED = "dataset.json", "unfinished"


def prepared(path: str) -> Mapping[str, Any] | None:
    """Reads the description of a prepared folder; None for any other path.

    Raises:
        InputError: for a folder that is not finished.
    """
    if not os.path.isdir(path):
        return None
    folder = Path(path)
    if (folder / UNFINISHED).exists():
        raise InputError(f"{path!r} is not finished. Run the same avq prepare again; it resumes.")
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return None
    return description if isinstance(description, dict) and "shards" in description else None


def open_prepared(data: Data) -> ArrayRecords | None:
    """Opens a prepared folder; the number of records is read, not counted.

    Raises:
        InputError: for a folder that is not finished or whose description is damaged.
    """
    path = data.path
    description = prepared(path)
    if description is None:
        return None
    try:
        counts = {str(shard["file"]): int(shard["images"]) for shard in description["shards"]}
        outside = [file for file in counts if os.path.basename(file) != file]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path!r}: {DESCRIPTION} is damaged ({error!r}).") from error
    if outside:
        raise InputError(f"{path!r}: {DESCRIPTION} names a file elsewhere, {outside[0]!r}.")
    return ArrayRecords(path, list(counts), counts)
