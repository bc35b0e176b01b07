"""Images that a command is given, by name, and where it writes others of those names."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from avq.apply.inputs import USUAL
from avq.data.channels import displayed, to_pil
from avq.data.images import SUFFIXES, UnreadableImage
from avq.data.settings import Data
from avq.data.sources import Source, open_source
from avq.data.sources.files import Folder
from avq.errors import InputError
from avq.json_files import replaced
from avq.storage.objects import require_local


class Pictures:
    """Images of files, patterns such as `*.jpg`, and whatever training takes as data: folders,
    archives, shards. They are read as their turn comes.

    Args:
        paths: of the images.
        data: settings of a model's images, for `white_level` and `channels`.

    Attributes:
        names: of the images, each with its folder below what was given.

    Raises:
        InputError: for a path that is none of these, and where two images have one name.
    """

    def __init__(self, paths: Sequence[str], data: Data = USUAL) -> None:
        self._places: list[tuple[Source, int]] = []
        for path in paths:
            for source in _sources(path, data):
                self._places += [(source, index) for index in range(len(source))]
        self.names = [source.name(index) for source, index in self._places]
        require_distinct(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w c"]]:
        for (source, index), name in zip(self._places, self.names, strict=True):
            try:
                yield source[index]
            except UnreadableImage as error:
                raise InputError(f"{name!r} is no image that can be read: {error}.") from error


def _sources(path: str, data: Data) -> Iterator[Source]:
    place = Path(path)
    if place.is_file() and place.suffix.lower() in SUFFIXES:
        yield Folder(str(place.parent), [place.name], data.white_level, data.channels)
    elif not place.exists() and (found := sorted(glob.glob(path, recursive=True))):
        for each in found:
            yield from _sources(each, data)
    else:
        yield open_source(path, data.white_level, data.channels)


def require_distinct(names: Iterable[str]) -> None:
    """Refuses images of which two would be one PNG file.

    Raises:
        InputError: naming it, or a name that `as_png` refuses.
    """
    for name, count in Counter(map(as_png, names)).items():
        if count > 1:
            raise InputError(
                f"{count} images would be called {name!r}. Give their common folder, or one of "
                "them at a time."
            )


def as_png(name: str) -> str:
    """Name of an image as a PNG file, below any folder; the suffix of an image is replaced.

    Raises:
        InputError: for one that would lie elsewhere.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or not path.name:
        raise InputError(f"{name!r} is no name of a file below a folder.")
    own = path.suffix.lower() in SUFFIXES  # not in 'shard.array_record#7'
    return str(path.with_suffix(".png") if own else path.with_name(f"{path.name}.png"))


def write_png(folder: Path, name: str, pixels: UInt8[np.ndarray, "h w c"]) -> None:
    """Writes a picture below a folder, see `as_png`."""
    file = folder / as_png(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as new:
        to_pil(pixels).save(new, "png")


def require_folder(folder: Path) -> None:
    """Makes a folder, if it is not there.

    Raises:
        InputError: where it cannot be made.
    """
    require_local(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be made ({error.strerror}).") from error


def contact_sheet(
    file: Path, pairs: Sequence[tuple[UInt8[np.ndarray, "_h _w c"], UInt8[np.ndarray, "_h _w c"]]]
) -> None:
    """Writes a picture of images above others of their sizes, each pair a column."""
    cell = max((side for image, _ in pairs for side in image.shape[:2]), default=1)
    sheet = np.full((2 * cell, max(len(pairs), 1) * cell, 3), 255, np.uint8)
    for column, pair in enumerate(pairs):
        for row, image in enumerate(pair):
            height, width, _ = image.shape
            top, left = row * cell, column * cell
            sheet[top : top + height, left : left + width] = displayed(image)
    with replaced(file) as new:
        to_pil(sheet).save(new, "png")


def tiled(images: Sequence[UInt8[np.ndarray, "h w c"]], columns: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Images of one size as a picture, row by row; what the last row lacks is white."""
    height, width, _ = images[0].shape
    rows = -(-len(images) // columns)
    picture = np.full((rows * height, min(columns, len(images)) * width, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * height, place % columns * width
        picture[top : top + height, left : left + width] = displayed(image)
    return picture
