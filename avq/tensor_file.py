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
    ordered = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
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

    sizes = {name: np.dtype(e.dtype).itemsize * _product(e.shape) for name, e in expected.items()}
    if not file.is_file():  # a pipe would be waited for
        raise InputError(f"there is no file {str(file)!r}.")
    try:
        content = _content(file, sum(sizes.values()))
        tensors: dict[str, np.ndarray] = load(content)
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read ({error.strerror}).") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{str(file)!r} is damaged ({reason}). Put back a copy.") from error
    for name in sorted({*expected, *tensors}):
        wanted, there = expected.get(name), tensors.get(name)
        if wanted is None or there is None:
            problem = f"lacks {name}" if there is None else f"has {name}, which that has not"
        elif (there.shape, there.dtype) != (tuple(wanted.shape), np.dtype(wanted.dtype)):
            problem = f"{name} is {there.dtype} {there.shape}, not {wanted.dtype} {wanted.shape}"
        else:
            continue
        raise InputError(f"{str(file)!r} is not of the model that its config describes: {problem}.")
    return tensors


def _content(file: Path, most: int) -> bytes:
    """The whole file.

    Raises:
        ValueError: where its header is longer than it may be, or the rest than `most` bytes.
    """
    with file.open("rb") as stream:
        start = stream.read(LENGTH)
        header = int.from_bytes(start, "little")
        if len(start) < LENGTH:
            raise ValueError(f"{len(start)} bytes")
        if header > MAX_HEADER:
            raise ValueError(f"a header of {header:,} bytes, over {MAX_HEADER:,}")
        content = start + stream.read(header + most + 1)
    if len(content) > LENGTH + header + most:
        raise ValueError(f"over {most:,} bytes of tensors, which the config's model has")
    return content


def _product(shape: Any) -> int:
    product = 1  # of Python's integers, which do not overflow
    for length in shape:
        product *= int(length)
    return product
