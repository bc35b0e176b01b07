"""What the pipeline asks of a set of images, and the parts that its kinds share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from avq.data.images import UnreadableImage, decode

MAX_FILE_BYTES = 1 << 28


@runtime_checkable
class Source(Protocol):
    """Images by index.

    Attributes:
        augment: whether it has so few images that training takes random squares of them, in random
            colours, rather than their centres.
    """

    augment: bool

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image; `UnreadableImage` when there is none."""
        ...

    def name(self, index: int) -> str:
        """For messages."""
        ...


class EncodedImages(ABC):
    """A source of image files of any format, wherever their bytes lie. It can be pickled, to be
    read by other processes.
    """

    augment = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """For messages."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The bytes of an image file; any exception says why there are none."""

    @abstractmethod
    def groups(self) -> Mapping[str, Int[np.ndarray, "_"]]:
        """Rows by the folder or kind of shard that they lie in, 'train' and 'test' perhaps."""

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
    """Refuses to read a file that is unreasonably large for one image."""
    if size > MAX_FILE_BYTES:
        raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
