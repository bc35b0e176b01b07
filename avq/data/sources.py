"""Where images come from: a folder tree, a zip read in place, or the embedded photographs.

A source has `len`, `source[i]` (an RGB image, or `UnreadableImage`), `source.name(i)` for messages,
and `augment`: whether it has so few images that training takes random squares of them, in random
colours, rather than their centres.
"""

import importlib.resources
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from avq.data.images import SUFFIXES, UnreadableImage, decode, random_colours, random_square
from avq.errors import InputError

MAX_FILE_BYTES = 1 << 28
HELD_OUT_CROPS = 512

# Photographs inside scikit-image's wheel that their makers gave to the public domain or under CC0
# (docs/DATA.md names each).
TRAIN_PHOTOGRAPHS = (
    "rocket.jpg",
    "coffee.png",
    "retina.jpg",
    "hubble_deep_field.jpg",
    "brick.png",
    "grass.png",
)
TEST_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "camera.png", "gravel.png")


@runtime_checkable
class Source(Protocol):
    """What the pipeline asks of a set of images."""

    augment: bool

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]: ...
    def name(self, index: int) -> str: ...


class Files:
    """Image files read one by one.

    Attributes:
        names: of the images, sorted.
        read: the bytes of a named file.
    """

    augment = False

    def __init__(self, names: Sequence[str], read: Callable[[str], bytes]) -> None:
        self.names = list(names)
        self.read = read

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        try:
            data = self.read(self.names[index])
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise UnreadableImage(str(error)) from error
        return decode(data)

    def name(self, index: int) -> str:
        return self.names[index]


class Photographs:
    """The embedded photographs: whole ones for training, fixed random squares of other ones, half
    of them in other colours as in training, for testing.
    """

    def __init__(self, split: str, size: int) -> None:
        self.augment = split == "train"
        self._names = list(TRAIN_PHOTOGRAPHS if self.augment else TEST_PHOTOGRAPHS)
        folder = importlib.resources.files("skimage.data")
        self._images = [decode(folder.joinpath(name).read_bytes()) for name in self._names]
        if not self.augment:
            rng = np.random.default_rng(1967)
            whole, files = self._images, self._names
            self._images = [
                random_colours(random_square(whole[i % len(whole)], size, rng), rng)
                for i in range(HELD_OUT_CROPS)
            ]
            self._names = [
                f"{files[i % len(files)]}#{i // len(files)}" for i in range(HELD_OUT_CROPS)
            ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._images[index]

    def name(self, index: int) -> str:
        return self._names[index]


def open_files(path: str) -> Files:
    """All images below a folder, or inside a `.zip`.

    Raises:
        InputError: when there is no such path, it is neither, or it holds no images.
    """
    advice = "Give a folder or .zip of images, or use :tiny, which needs none."
    if not os.path.exists(path):
        raise InputError(f"data.path: no such file or folder: {path!r}. {advice}")
    if os.path.isdir(path):
        names, read = _names_in_folder(path), lambda name: _read_file(os.path.join(path, name))
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"data.path: {path!r} is no readable .zip ({error}). {advice}"
            ) from error
        names, read = archive.namelist(), lambda name: _read_member(archive, name)
    files = Files(sorted(filter(_is_image, names)), read)
    if not files.names:
        looked = " ".join(SUFFIXES)
        raise InputError(f"data.path: no images under {path!r} (looked for {looked}). {advice}")
    return files


def split_files(files: Files, share: float, seed: int) -> dict[str, Files]:
    """Training and test files: those under folders `train/` and `test/` where both exist at the
    top, else a random split.

    Args:
        files: all of them.
        share: of the training files in a random split.
        seed: of the permutation.
    """
    top = _common_depth(files.names)
    by_folder: dict[str, list[str]] = {}
    for name in files.names:
        parts = PurePosixPath(name).parts
        by_folder.setdefault(parts[top] if len(parts) > top + 1 else "", []).append(name)
    if "train" in by_folder and "test" in by_folder:
        return {split: Files(by_folder[split], files.read) for split in ("train", "test")}
    order = np.random.default_rng(seed).permutation(len(files.names))
    cut = round(len(order) * share)
    parts_of = {"train": order[:cut], "test": order[cut:]}
    return {
        split: Files(sorted(files.names[i] for i in rows), files.read)
        for split, rows in parts_of.items()
    }


def _common_depth(names: Sequence[str]) -> int:
    """Number of folders that every name starts with."""
    return len(PurePosixPath(os.path.commonpath([os.path.dirname(n) for n in names]) or ".").parts)


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return name.lower().endswith(SUFFIXES) and not hidden


def _names_in_folder(path: str) -> list[str]:
    found = ((folder, name) for folder, _, names in os.walk(path) for name in names)
    return [Path(folder, name).relative_to(path).as_posix() for folder, name in found]


def _read_file(path: str) -> bytes:
    if os.path.getsize(path) > MAX_FILE_BYTES:
        raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return Path(path).read_bytes()


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_FILE_BYTES:
        raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return archive.read(name)
