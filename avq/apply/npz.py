"""Arrays of a `.npz` file from anywhere: nothing in it is executed, and its size is bounded."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from avq.errors import InputError

_DAMAGED = (EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_arrays(file: Path, kind: str, most: int) -> dict[str, Any]:
    """Arrays by name.

    Args:
        file: to read.
        kind: what it is a file of, for errors.
        most: bytes that it may take, unpacked.

    Raises:
        InputError: for a file that is missing, damaged or too large.
    """
    try:
        with file.open("rb") as stream:
            return unpacked(stream, most)
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise InputError(
            f"{str(file)!r} is no file of {kind}, or it is damaged: {error}. Put back a copy."
        ) from error


def unpacked(stream: io.BufferedReader | io.BytesIO, most: int) -> dict[str, Any]:
    """Arrays by name of a stream that can be read twice.

    Args:
        stream: bytes of a `.npz` file.
        most: bytes that they may take, unpacked.

    Raises:
        ValueError: for a stream that is damaged or too large.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise ValueError(f"it has {size:,} bytes unpacked, over {most:,}")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _DAMAGED as error:
        raise ValueError(str(error)) from error
