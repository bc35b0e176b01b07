"""Images to read: a folder of files, made or copied, and a zip of it."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from avq.data.sources import EncodedImages, Photographs, open_source
from avq.data.views import random_square
from avq.errors import InputError


def photograph_squares(folder: Path, side: int, n: int) -> None:
    """Writes JPEG files of random squares of the embedded photographs."""
    photographs, rng = Photographs("train", side), np.random.default_rng(0)
    for i in range(n):
        square = random_square(photographs[i % len(photographs)], side, rng)
        Image.fromarray(square).save(folder / f"{i:05d}.jpg", quality=90)


def unpack(path: Path, folder: Path, most: int | None = None) -> None:
    """Copies the encoded images of a source into a folder, all or the first `most`."""
    source = open_source(str(path))
    if not isinstance(source, EncodedImages):
        raise InputError(f"{str(path)!r} holds no image files. Give a folder, .zip or shards.")
    for i in range(len(source))[:most]:
        (folder / f"{i:06d}{Path(source.name(i)).suffix}").write_bytes(source.read(i))


def pack(folder: Path, archive: Path) -> None:
    """Writes the files of a folder into a zip."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)
