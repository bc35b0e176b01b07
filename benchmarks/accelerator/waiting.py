"""Share of the time that training waits for images, by where they come from."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from avq.bench import data_wait
from avq.data.dataset import ImageSet
from avq.data.pipeline import train_batches
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources import Source, open_source
from avq.data.views import centre_square
from benchmarks._common import Row
from benchmarks.accelerator.parts import Case, Shared, rounded
from benchmarks.speed.image_sources import pack, photograph_squares, unpack

KINDS = ("memory", "zip", "shards")


class InMemory:
    """Source of images that are decoded already."""

    augment = False

    def __init__(self, images: Sequence[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index]

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)


def write_images(data: str, folder: Path, side: int, most: int) -> None:
    """Files of images.

    Args:
        data: path of images to copy; 'photographs' for squares of the embedded ones.
        folder: to create.
        side: of those squares, pixels.
        most: number of images.
    """
    folder.mkdir()
    if data == "photographs":
        photograph_squares(folder, side, most)
    else:
        unpack(Path(data), folder, most)


def open_kind(kind: str, data: str, scratch: Path, side: int, most: int) -> Source:
    """The same images as one of `KINDS`.

    Args:
        kind: where training reads them.
        data, side, most: see `write_images`.
        scratch: an empty folder.
    """
    folder, archive, shards = (scratch / name for name in ("folder", "images.zip", "shards"))
    write_images(data, folder, side, most)
    if kind == "zip":
        pack(folder, archive)
        return open_source(str(archive))
    if kind == "shards":
        prepare(str(folder), shards, size=side)
        return open_source(str(shards))
    files = open_source(str(folder))
    return InMemory([centre_square(files[i], side) for i in range(len(files))])


def measure(shared: Shared, kind: str) -> Row:
    """Waits of the first case's training."""
    side = shared.config(*shared.first).data.image_size
    training = shared.training
    data = Data(image_size=side, batch_size=training.task.batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_kind(kind, shared.data, Path(scratch), side, shared.sizes.images)
        batches = train_batches(ImageSet(source), data, seed=0)
        wait = data_wait(training, batches, shared.sizes.steps)
    about = {"images": len(source), "side": side, "batch": data.batch_size}
    return about | {"data_wait": rounded(wait)}


def cases(shared: Shared) -> Sequence[Case]:
    """A case for each kind of source."""
    return [
        Case({"data": shared.data, "source": kind}, partial(measure, shared, kind))
        for kind in KINDS
    ]
