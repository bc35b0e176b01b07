"""Sources of images, chosen by the path of a config's `data`.

To add one, write in a file of its own a class with the four members of `Source` and a function that
opens it, an `Opener`, and add one line to `SOURCES`. Everything that takes a path then takes it:
training, `avq eval`, `avq data` and `avq prepare`. The same holds for an opener that other code
adds to `SOURCES`.
"""

import os
from collections.abc import Mapping

from avq.data.images import SUFFIXES
from avq.data.settings import Data
from avq.data.sources.base import EncodedImages, Opened, Opener, Source, Subset
from avq.data.sources.files import open_folder, open_zip
from avq.data.sources.photographs import Photographs, open_photographs
from avq.data.sources.prepared import open_prepared
from avq.data.sources.shards import open_array_records, open_parquet
from avq.errors import InputError

__all__ = [
    "SOURCES",
    "EncodedImages",
    "Photographs",
    "Source",
    "Subset",
    "open_path",
    "open_source",
]

# Tried in this order: the first one that knows a path opens it.
SOURCES: dict[str, Opener] = {
    "photographs": open_photographs,
    "prepared": open_prepared,
    "folder": open_folder,
    "zip": open_zip,
    "array_record": open_array_records,
    "parquet": open_parquet,
}
_ADVICE = "Give a folder or .zip of images."


def open_path(data: Data) -> Opened:
    """Opens a path as its first source that knows it does.

    Raises:
        InputError: when there is no such path, no source knows it, or it holds no images.
    """
    opened = next((o for opener in SOURCES.values() if (o := opener(data)) is not None), None)
    if opened is None and not os.path.exists(data.path):
        raise InputError(f"no such file or folder: {data.path!r}. {_ADVICE}")
    if not opened:
        raise InputError(
            f"no images under {data.path!r} (looked for {' '.join(SUFFIXES)} "
            f".array_record .parquet). {_ADVICE}"
        )
    return opened


def open_source(path: str, white_level: int = 0, channels: int = 3) -> Source:
    """Opens all images of a path.

    Args:
        path: as `data.path` takes it.
        white_level, channels: as `data.white_level` and `data.channels`.

    Raises:
        InputError: when there is no such path, no source knows it, it holds no images, or its
            training and test images can only be opened apart.
    """
    opened = open_path(Data(path=path, white_level=white_level, channels=channels))
    if isinstance(opened, Mapping):
        parts = " and ".join(opened)
        raise InputError(
            f"{path!r} comes as {parts} images, not as one set. Give a folder or file of images."
        )
    return opened
