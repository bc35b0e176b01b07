"""Image files below a folder or inside a zip."""

import os
import stat
import zipfile
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from avq.data.images import SUFFIXES, UnreadableImage
from avq.data.settings import Data
from avq.data.sources.base import EncodedImages, require_bounded
from avq.data.sources.sorted_names import sorted_names
from avq.errors import InputError


class Files(EncodedImages):
    """Named files.

    Attributes:
        names: paths relative to `path`, sorted; on disk where they are many.
        others: number of files of other kinds by suffix.
        white_level, channels: as `decode` takes them.
    """

    def __init__(
        self, path: str, names: Iterable[str], white_level: int = 0, channels: int = 3
    ) -> None:
        self.path, self.white_level, self.channels = path, white_level, channels
        self.others: Counter[str] = Counter()
        self.names = sorted_names(self._images(names))

    def _images(self, names: Iterable[str]) -> Iterator[str]:
        """Yields the names of images, and counts the others."""
        for name in names:
            if is_image(name):
                yield name
            elif not is_hidden(name):
                self.others[PurePosixPath(name).suffix.lower()] += 1

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    @abstractmethod
    def read(self, index: int) -> bytes: ...

    def places(self, index: int) -> tuple[str, ...]:
        return tuple(f"{folder}/" for folder in self.names[index].split("/")[:-1])


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

    def __init__(self, path: str, white_level: int = 0, channels: int = 3) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(
                f"{path!r} is no readable .zip ({error}). Give a folder or .zip of images, "
                ".array_record or .parquet files."
            ) from error
        files = [member for member in self._archive.infolist() if not member.is_dir()]
        super().__init__(path, [member.filename for member in files], white_level, channels)
        self._members = sorted(
            (member for member in files if is_image(member.filename)),
            key=lambda member: member.filename,
        )

    def __reduce__(self) -> tuple[type["Zip"], tuple[str, int, int]]:
        return Zip, (self.path, self.white_level, self.channels)

    def read(self, index: int) -> bytes:
        member = self._members[index]
        require_bounded(member.file_size)
        return self._archive.read(member)


def open_folder(data: Data) -> Folder | None:
    """Opens a folder that holds image files at any depth."""
    if not os.path.isdir(data.path):
        return None
    folder = Folder(data.path, walk(data.path), data.white_level, data.channels)
    return folder if folder.names else None


def open_zip(data: Data) -> Zip | None:
    """Opens a zip, whatever its suffix; a damaged one is known by the suffix."""
    path = data.path
    if os.path.isfile(path) and (path.endswith(".zip") or zipfile.is_zipfile(path)):
        return Zip(path, data.white_level, data.channels)
    return None


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image, and it is not hidden."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a file or a folder that holds it is hidden."""
    parts = PurePosixPath(name).parts
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)


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
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                for entry in entries:
                    path = os.path.join(below, entry.name)
                    if _is_folder(entry):
                        waiting.append(path)
                    else:
                        yield path
        except OSError as error:
            raise InputError(f"{here!r} cannot be read ({error.strerror}).") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
