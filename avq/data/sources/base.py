"""Interface of a source of images, and what its kinds share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from avq.data.images import UnreadableImage, decode
from avq.data.settings import Data

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
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads an image.

        Raises:
            UnreadableImage: when it cannot be read or decoded.
        """
        ...

    def name(self, index: int) -> str:
        """Name of an image in messages."""
        ...


@runtime_checkable
class Grouped(Source, Protocol):
    """Source whose images come in named groups, which may be a split."""

    def groups(self) -> Mapping[str, Int[np.ndarray, "_"]]:
        """Rows by group; 'train' and 'test' (or 'val') groups are a split."""
        ...


# All images of a path, or its training and test images where they are different sources.
Opened: TypeAlias = Source | Mapping[str, Source]
# Opens the path of a config's `data`; None for a path of another kind, `InputError` for one of its
# kind that cannot be opened.
Opener: TypeAlias = Callable[[Data], Opened | None]


class EncodedImages(ABC):
    """Source of image files of any format, wherever their bytes are stored."""

    augment = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of an image in messages."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Reads the bytes of an image file. Any exception makes the image unreadable."""

    @abstractmethod
    def groups(self) -> Mapping[str, Int[np.ndarray, "_"]]:
        """Rows by the folder or kind of shard that holds them, perhaps 'train' and 'test'."""

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        try:
            data = self.read(index)
        except UnreadableImage:
            raise
        except Exception as error:  # each archive format's reader has exceptions of its own
            raise UnreadableImage(" ".join(str(error).split()) or type(error).__name__) from error
        return decode(data)


class Subset:
    """Some rows of a source."""

    def __init__(self, source: Source, rows: Int[np.ndarray, "n"]) -> None:
        self.source = source
        self.rows = rows
        self.augment = source.augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self.source[int(self.rows[index])]

    def name(self, index: int) -> str:
        return self.source.name(int(self.rows[index]))


def require_bounded(size: int) -> None:
    """Refuses to read a file that is unreasonably large for one image.

    Raises:
        UnreadableImage: for more than `MAX_FILE_BYTES`.
    """
    if size > MAX_FILE_BYTES:
        raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
