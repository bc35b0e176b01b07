"""Interface of a source of images, and what its kinds share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import UInt8, UInt64

from avq.data import images
from avq.data.images import UnreadableImage, decode
from avq.data.names import hash_names
from avq.data.rows import Rows
from avq.data.settings import Data
from avq.errors import InputError

MAX_FILE_BYTES = 1 << 28


@runtime_checkable
class Source(Protocol):
    """Images by index. It can be pickled, so that worker processes can read it.

    Attributes:
        augment: whether it has so few images that training takes random squares of them, in random
            colours, rather than their centres.
    """

    augment: bool

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Reads an image, of the channels of the settings that it was opened for.

        Raises:
            UnreadableImage: when it cannot be read or decoded.
        """
        ...

    def name(self, index: int) -> str:
        """Name of an image, the same wherever the set lies."""
        ...


@runtime_checkable
class Placed(Source, Protocol):
    """Source whose images lie in named places, whose names may be those of a split."""

    def places(self, index: int) -> tuple[str, ...]:
        """Names of the folders that hold an image, outermost first, each with '/' behind it; then
        that of its shard, with '*' for the shard's number.
        """
        ...


@runtime_checkable
class Divided(Source, Protocol):
    """Source that comes as training and test images.

    Attributes:
        own_split: rows of 'train' and of 'test'.
    """

    own_split: Mapping[str, range]


@runtime_checkable
class Hashed(Source, Protocol):
    """Source that knows its images by other names than its own.

    Attributes:
        hashes: of those names, see `avq.data.names`.
    """

    hashes: UInt64[np.ndarray, "n"]


# All images of a path, or its training and test images where they are different sources.
Opened: TypeAlias = Source | Mapping[str, Source]
# Opens the path of a config's `data`; None for a path of another kind, `InputError` for one of its
# kind that cannot be opened.
Opener: TypeAlias = Callable[[Data], Opened | None]


class EncodedImages(ABC):
    """Source of image files of any format, wherever their bytes are stored.

    Attributes:
        white_level, channels: as `decode` takes them.
    """

    augment = False
    white_level, channels = 0, 3

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of an image, the same wherever the set lies."""

    @abstractmethod
    def places(self, index: int) -> tuple[str, ...]:
        """Folders and shard that hold an image, see `Placed`."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Reads the bytes of an image file. Any exception makes the image unreadable."""

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        return decode(self.content(index), self.white_level, self.channels)

    def content(self, index: int) -> bytes:
        """Reads the bytes of an image file.

        Raises:
            UnreadableImage: when they cannot be read.
        """
        try:
            return self.read(index)
        except (UnreadableImage, InputError):  # the latter when its storage fails
            raise
        except Exception as error:  # each archive format's reader has exceptions of its own
            raise UnreadableImage(" ".join(str(error).split()) or type(error).__name__) from error


class Subset:
    """Some rows of a source."""

    def __init__(self, source: Source, rows: Rows) -> None:
        self.source = source
        self.rows = rows
        self.augment = source.augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        return self.source[int(self.rows[index])]

    def name(self, index: int) -> str:
        """Name of an image, as in the source."""
        return self.source.name(int(self.rows[index]))


def name_hashes(source: Source) -> UInt64[np.ndarray, "n"]:
    """Hashes of the names of a source's images, in order; see `avq.data.names`."""
    all_of_it = source, range(len(source))
    whole, rows = (source.source, source.rows) if isinstance(source, Subset) else all_of_it
    if isinstance(whole, Hashed):
        hashes: np.ndarray = whole.hashes[np.asarray(rows)]
        return hashes
    return hash_names(whole.name(int(row)) for row in rows)


def used_range(source: Source, index: int) -> float | None:
    """Share of its type's range that an image uses, see `avq.data.images.used_range`; None for one
    of eight bits a channel.

    Raises:
        UnreadableImage: when it cannot be read or decoded.
    """
    if isinstance(source, Subset):
        return used_range(source.source, int(source.rows[index]))
    return images.used_range(source.content(index)) if isinstance(source, EncodedImages) else None


def require_bounded(size: int) -> None:
    """Refuses to read a file that is unreasonably large for one image.

    Raises:
        UnreadableImage: for more than `MAX_FILE_BYTES`.
    """
    if size > MAX_FILE_BYTES:
        raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
