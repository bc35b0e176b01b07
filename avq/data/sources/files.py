"""Image files below a folder or inside a zip."""

import os
import stat
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Int

from avq.data.images import SUFFIXES, UnreadableImage
from avq.data.settings import Data
from avq.data.sources.base import EncodedImages, require_bounded
from avq.errors import InputError


class Files(EncodedImages):
    """Named files.

    Attributes:
        names: paths relative to `path`, sorted.
    """

    def __init__(self, path: str, names: Sequence[str]) -> None:
        self.path = path
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    @abstractmethod
    def read(self, index: int) -> bytes: ...

    def groups(self) -> Mapping[str, Int[np.ndarray, "_"]]:
        """Rows by the topmost folder that not all files share; '' for files outside of folders."""
        folders = [PurePosixPath(name).parent.parts for name in self.names]
        ends = zip(min(folders), max(folders), strict=False)
        top = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        rows: dict[str, list[int]] = {}
        for row, parts in enumerate(folders):
            rows.setdefault(parts[top] if len(parts) > top else "", []).append(row)
        return {name: np.array(group) for name, group in rows.items()}


class Folder(Files):
    """Image files below a folder."""

    def read(self, index: int) -> bytes:
        path = os.path.join(self.path, self.names[index])
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise UnreadableImage("not a regular file")
        require_bounded(status.st_size)
        with open(path, "rb") as file:
            return file.read()


class Zip(Files):
    """Image files inside a `.zip`, which is read in place.

    Raises:
        InputError: for a file that is no zip or whose index is damaged.
    """

    def __init__(self, path: str) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(
                f"{path!r} is no readable .zip ({error}). Give a folder or .zip of images, "
                ".array_record or .parquet files."
            ) from error
        self._members = sorted(
            (member for member in self._archive.infolist() if is_image(member.filename)),
            key=lambda member: member.filename,
        )
        super().__init__(path, [member.filename for member in self._members])

    def __reduce__(self) -> tuple[type["Zip"], tuple[str]]:
        return Zip, (self.path,)

    def read(self, index: int) -> bytes:
        member = self._members[index]
        require_bounded(member.file_size)
        return self._archive.read(member)


def open_folder(data: Data) -> Folder | None:
    """Opens a folder that holds image files at any depth."""
    if not os.path.isdir(data.path):
        return None
    names = sorted(filter(is_image, walk(data.path)))
    return Folder(data.path, names) if names else None


def open_zip(data: Data) -> Zip | None:
    """Opens a zip, whatever its suffix; a damaged one is known by the suffix."""
    path = data.path
    if os.path.isfile(path) and (path.endswith(".zip") or zipfile.is_zipfile(path)):
        return Zip(path)
    return None


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image and neither it nor a folder in it is hidden."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
    return name.lower().endswith(SUFFIXES) and not hidden


def walk(folder: str) -> Iterator[str]:
    """Relative paths of all files below a folder. Symbolic links are followed, and every folder is
    entered once.

    Raises:
        InputError: for a folder that cannot be read.
    """
    entered = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = os.path.join(folder, below)
        try:
            status = os.stat(here)
            entries = list(os.scandir(here))
        except OSError as error:
            raise InputError(f"{here!r} cannot be read ({error.strerror}).") from error
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = os.path.join(below, entry.name)
            if _is_folder(entry):
                waiting.append(path)
            else:
                yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
