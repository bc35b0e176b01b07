"""Images in ArrayRecord files, and in Parquet files as hubs publish image sets."""

import os
import re
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from avq.data.images import UnreadableImage
from avq.data.settings import Data
from avq.data.sources.base import EncodedImages, require_bounded
from avq.data.sources.files import walk
from avq.errors import InputError
from avq.storage import cache
from avq.storage.objects import at

NUMBER = re.compile(r"[^A-Za-z0-9]\d+.*$")  # in 'train-00000-of-00008', all behind 'train'
ROW_GROUPS_KEPT = 2
FILES_KEPT = 128  # open files of ArrayRecords
FOR_RANDOM_ACCESS = "readahead_buffer_size:0"


class Shards(EncodedImages):
    """Rows of several files, one file after the other.

    Attributes:
        path: the folder of the files.
        files: paths relative to it.
        counts: number of rows of each file.
        white_level, channels: as `decode` takes them.
    """

    def __init__(
        self,
        path: str,
        files: Sequence[str],
        counts: Sequence[int],
        white_level: int,
        channels: int,
    ) -> None:
        self.path, self.white_level, self.channels = path, white_level, channels
        self.files, self.counts = files, np.array(counts, np.int64)
        self._ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def place(self, index: int) -> tuple[int, int]:
        """Number of the file that holds an image, and its row there."""
        file = int(np.searchsorted(self._ends, index, "right"))
        return file, int(index - self._ends[file] + self.counts[file])

    def name(self, index: int) -> str:
        file, row = self.place(index)
        return f"{self.files[file]}#{row}"

    @abstractmethod
    def read(self, index: int) -> bytes: ...

    def places(self, index: int) -> tuple[str, ...]:
        return _places(self.files[self.place(index)[0]])


class ArrayRecords(Shards):
    """Records that each are an image file; a checksum per record detects damage. A file is opened
    when it is read, and closed when many others were since.

    Args:
        path: the folder of the files.
        files: paths relative to it.
        counts: records of each; None counts them, which opens every file.
        white_level, channels: as `decode` takes them.

    Raises:
        InputError: for a damaged file.
    """

    def __init__(
        self,
        path: str,
        files: Sequence[str],
        counts: Sequence[int] | None = None,
        white_level: int = 0,
        channels: int = 3,
    ) -> None:
        if counts is None:
            counts = [count_records(Path(path, file)) for file in files]
        super().__init__(path, files, counts, white_level, channels)
        self._start()

    def _start(self) -> None:
        self._open: OrderedDict[int, ArrayRecordReader] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def read(self, index: int) -> bytes:
        file, row = self.place(index)
        return cast(bytes, self._reader(file).read([row])[0])

    def _reader(self, file: int) -> ArrayRecordReader:
        with self._lock:
            if file in self._open:
                self._open.move_to_end(file)
                return self._open[file]
        reader = self._opened(file)  # others read meanwhile: it may have to be fetched
        with self._lock:
            while len(self._open) >= FILES_KEPT:  # closed once no thread reads it any more
                self._open.popitem(last=False)
            self._open[file] = reader
        return reader

    def _opened(self, file: int) -> ArrayRecordReader:
        path = os.path.join(self.path, self.files[file])
        with cache.opened(at(path)) as copy:
            reader = ArrayRecordReader(str(copy), FOR_RANDOM_ACCESS)
            count = int(reader.num_records())
        if count != self.counts[file]:
            raise UnreadableImage(f"{path} has {count} records, not {self.counts[file]}")
        return reader


class Parquet(Shards):
    """Rows of Parquet files with a column of images, `{bytes, path}` or bytes.

    A row is read together with its row group, and the last two row groups are kept: reading in
    order is fast, reading at random is slow.

    Args:
        path: the folder of the files.
        files: paths relative to it.
        white_level, channels: as `decode` takes them.

    Raises:
        InputError: for a damaged file, one without a column of images, or without pyarrow.
    """

    def __init__(
        self, path: str, files: Sequence[str], white_level: int = 0, channels: int = 3
    ) -> None:
        self._opened = [_open_parquet(Path(path, file)) for file in files]
        counts = [opened.metadata.num_rows for opened in self._opened]
        super().__init__(path, files, counts, white_level, channels)
        self._columns = [
            _image_column(file, Path(path, name))
            for name, file in zip(files, self._opened, strict=True)
        ]
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = threading.Lock()  # a ParquetFile is not safe to read from several threads

    def __reduce__(self) -> tuple[type["Parquet"], tuple[str, list[str], int, int]]:
        return Parquet, (self.path, list(self.files), self.white_level, self.channels)

    def read(self, index: int) -> bytes:
        file, row = self.place(index)
        metadata = self._opened[file].metadata
        group = 0
        while row >= (rows := metadata.row_group(group).num_rows):
            group, row = group + 1, row - rows
        value: Any = self._column(file, group)[row].as_py()
        path = None
        if isinstance(value, dict):
            path, value = value.get("path"), value.get("bytes")
        if not value and path:
            raise UnreadableImage(f"the row holds a path, {path!r}, and no picture")
        if not value:
            raise UnreadableImage("the row has no bytes")
        require_bounded(len(value))
        return cast(bytes, value)

    def _column(self, file: int, group: int) -> Any:
        with self._lock:
            if (file, group) not in self._groups:
                while len(self._groups) >= ROW_GROUPS_KEPT:
                    self._groups.popitem(last=False)
                column = self._columns[file]
                table = self._opened[file].read_row_group(group, columns=[column])
                self._groups[file, group] = table.column(column)
            self._groups.move_to_end((file, group))
            return self._groups[file, group]


def open_array_records(data: Data) -> ArrayRecords | None:
    """Opens an `.array_record` file, or all of them below a folder."""
    folder, files = _files(data.path, ".array_record")
    return ArrayRecords(folder, files, None, data.white_level, data.channels) if files else None


def open_parquet(data: Data) -> Parquet | None:
    """Opens a `.parquet` file, or all of them below a folder."""
    folder, files = _files(data.path, ".parquet")
    return Parquet(folder, files, data.white_level, data.channels) if files else None


def _places(file: str) -> tuple[str, ...]:
    *folders, shard = file.split("/")
    return (*(f"{folder}/" for folder in folders), NUMBER.sub("", PurePosixPath(shard).stem) + "*")


def _files(path: str, suffix: str) -> tuple[str, list[str]]:
    """Folder and relative paths of the files with a suffix that a path names or holds."""
    if os.path.isdir(path):
        return path, sorted(name for name in walk(path) if name.endswith(suffix))
    folder, name = os.path.split(path)
    return folder, [name] if name.endswith(suffix) and os.path.exists(path) else []


def count_records(path: Path) -> int:
    """Number of records of an ArrayRecord file.

    Raises:
        InputError: for a damaged file.
    """
    try:
        reader = ArrayRecordReader(str(path))
        count = int(reader.num_records())
        reader.close()  # raises what went wrong when it was opened
    except RuntimeError as error:
        raise InputError(f"{str(path)!r} is no whole ArrayRecord file ({_line(error)}).") from error
    return count


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _open_parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(
            f"{str(path)!r}: reading Parquet needs pyarrow. Run: pip install 'avq[parquet]'"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise InputError(f"{str(path)!r} is no whole Parquet file ({_line(error)}).") from error


def _image_column(file: Any, path: Path) -> str:
    """Name of the column of images: `image` if there is one, else the first of a fitting type."""
    from pyarrow import types

    def fits(kind: Any) -> bool:
        if types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    columns = [field.name for field in file.schema_arrow if fits(field.type)]
    if not columns:
        raise InputError(f"{str(path)!r} has no column of images ({{bytes, path}}, or bytes).")
    return "image" if "image" in columns else columns[0]
