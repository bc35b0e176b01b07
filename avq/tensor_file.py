"""Files of named arrays, as safetensors: nothing in them is executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avq.errors import InputError

MAX_HEADER = 1 << 22  # bytes; a tensor takes about a hundred
LENGTH = 8  # bytes of the header's length


def write_tensors(file: Path, tensors: Mapping[str, Any]) -> None:
    """Writes arrays."""
    from safetensors.numpy import save

    # safetensors 0.8 writes the memory of a transposed array as it lies, and a file of its own
    # making is for its owner alone.
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    file.write_bytes(save(ordered))


def read_tensors(file: Path, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Reads a file that has to hold certain arrays and no others. No more is read than those take.

    Args:
        file: to read.
        expected: anything with the `shape` and `dtype` of each array, by name.

    Raises:
        InputError: for a file that is missing, damaged, or holds others.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    most = sum(np.dtype(e.dtype).itemsize * _product(e.shape) for e in expected.values())
    if not file.is_file():  # a pipe would be waited for
        raise InputError(f"there is no file {str(file)!r}.")
    try:
        content, more = _content(file, most)
        tensors: dict[str, np.ndarray] = {} if more else load(content)
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read ({error.strerror}).") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{str(file)!r} is damaged ({reason}). Put back a copy.") from error
    problem = f"it has over {most:,} bytes of tensors" if more else _difference(tensors, expected)
    if problem:
        raise InputError(f"{str(file)!r} is not of the model that its config describes: {problem}.")
    return tensors


def _content(file: Path, most: int) -> tuple[bytes, bool]:
    """Header and `most` bytes of tensors, and whether there are more.

    Raises:
        ValueError: where there is no header, or it is longer than it may be.
    """
    with file.open("rb") as stream:
        start = stream.read(LENGTH)
        header = int.from_bytes(start, "little")
        if len(start) < LENGTH:
            raise ValueError(f"{len(start)} bytes")
        if header > MAX_HEADER:
            raise ValueError(f"a header of {header:,} bytes, over {MAX_HEADER:,}")
        return start + stream.read(header + most), bool(stream.read(1))


def _difference(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Any]) -> str:
    """The first difference in words; empty where there is none."""
    for name in sorted({*expected, *tensors}):
        wanted, there = expected.get(name), tensors.get(name)
        if there is None:
            return f"it lacks {name}"
        if wanted is None:
            return f"it has {name}, too"
        if (there.shape, there.dtype) != (tuple(wanted.shape), np.dtype(wanted.dtype)):
            return f"{name} is {there.dtype} {there.shape}, not {wanted.dtype} {wanted.shape}"
    return ""


def _product(shape: Any) -> int:
    product = 1  # of Python's integers, which do not overflow
    for length in shape:
        product *= int(length)
    return product
