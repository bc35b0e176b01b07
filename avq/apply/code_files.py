"""Files of codes: a `.npz` with the codes of named images of any sizes.

Its arrays: `names`; `sizes`, height and width of each image, pixels; `level1`, `level2`, ..., all
codes of a level, finest first, one image after another and row by row; `cells`, pixels along a code
of each level; `stride`, which sides are rounded up to multiples of; `model`, digest of the model.
A file of `avq tokenize` has two more: `splits`, 'train' or 'test' of each image, and `about`, the
text of a `codes.json`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt

from avq.apply.npz import read_arrays
from avq.apply.tokenizer import Codes, Size, Tokenizer
from avq.errors import InputError
from avq.json_files import replaced

KIND = "codes"
MOST_BYTES = 1 << 32  # that a file may take, unpacked


@dataclass
class CodeFile:
    """Codes of images.

    Attributes:
        names: of the images.
        sizes: height and width of each, pixels.
        codes: grids `[h, w]` of each, finest level first.
    """

    names: list[str]
    sizes: list[Size]
    codes: list[Codes]


def write_codes(
    file: Path,
    found: CodeFile,
    tokenizer: Tokenizer,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Writes a file of codes, each as the smallest unsigned integer that holds its codebook's.

    Args:
        file: to write.
        found: codes.
        tokenizer: that they are of.
        more: arrays beside them, by name.
    """
    levels: dict[str, Any] = {}
    for level, size in enumerate(tokenizer.codebook_sizes):
        flat = [codes[level].reshape(-1) for codes in found.codes]
        kind = np.min_scalar_type(size - 1)
        levels[f"level{level + 1}"] = np.concatenate([np.zeros(0, kind), *flat]).astype(kind)
    arrays: dict[str, Any] = {
        "names": np.array(found.names, dtype=np.str_),
        "sizes": np.array(found.sizes, dtype=np.int32).reshape(-1, 2),
        "cells": np.array(tokenizer.cells, np.int32),
        "stride": np.int32(tokenizer.stride),
        "model": np.str_(tokenizer.digest),
    }
    with replaced(file) as new, new.open("wb") as stream:
        np.savez_compressed(stream, **arrays, **levels, **more)


def read_codes(file: Path, tokenizer: Tokenizer) -> CodeFile:
    """Reads a file of codes.

    Raises:
        InputError: for a file that is missing, damaged or too large, or was written with another
            model.
    """
    arrays = read_arrays(file, KIND, MOST_BYTES)
    levels = [f"level{level + 1}" for level in range(tokenizer.levels)]
    expected = {"names": "U", "sizes": "i", "model": "U"} | dict.fromkeys(levels, "u")
    for name, kind in expected.items():
        if name not in arrays or arrays[name].dtype.kind != kind:
            raise InputError(f"{str(file)!r} is no file of codes: it has no {name!r}.")
    if str(arrays["model"]) != tokenizer.digest:
        raise InputError(
            f"{str(file)!r} was encoded by model {arrays['model']}, and this one is "
            f"{tokenizer.digest}. Give the model that it was encoded with."
        )
    names, sizes = [str(name) for name in arrays["names"]], arrays["sizes"]
    if sizes.shape != (len(names), 2) or np.any(sizes < 1):
        raise InputError(f"{str(file)!r} is damaged: {len(names)} names, sizes {sizes.shape}.")
    pairs = [(int(height), int(width)) for height, width in sizes]
    grids = [tokenizer.grids(*size) for size in pairs]
    flat = [arrays[level] for level in levels]
    for level, codes in enumerate(flat):
        wanted = sum(grid[level][0] * grid[level][1] for grid in grids)
        if codes.shape != (wanted,):
            found = f"{codes.size} codes of level {level + 1}"
            raise InputError(f"{str(file)!r} is damaged: {found}, where its sizes need {wanted}.")
        size = tokenizer.codebook_sizes[level]
        if wanted and codes.max() >= size:
            found = f"codes of level {level + 1} are not all in 0..{size - 1}"
            raise InputError(f"{str(file)!r} is damaged: {found}.")
    return CodeFile(names, pairs, list(_cut(flat, grids)))


def _cut(flat: Sequence[UInt[np.ndarray, "_"]], grids: Sequence[Sequence[Size]]) -> Iterator[Codes]:
    """Grids of each image from all codes of each level."""
    starts = [0] * len(flat)
    for image in grids:
        parts = []
        for level, (height, width) in enumerate(image):
            end = starts[level] + height * width
            parts.append(flat[level][starts[level] : end].reshape(height, width).astype(np.int32))
            starts[level] = end
        yield tuple(parts)
