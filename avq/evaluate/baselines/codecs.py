"""Files of Pillow's lossy codecs at the size of a model's codes."""

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

from avq.data.channels import from_pil, to_pil
from avq.data.pipeline import THREADS


@dataclass(frozen=True)
class Codec:
    """A lossy format of Pillow.

    Attributes:
        format: name for `Image.save`.
        feature: name for `PIL.features`.
        options: further arguments of `Image.save`, from those of the smallest file to those of the
            largest.
        options_of_side: arguments that depend on an image's shorter side, pixels.
        channels: of the images that it can store.
    """

    format: str
    feature: str
    options: Sequence[Mapping[str, Any]]
    options_of_side: Callable[[int], Mapping[str, Any]] = lambda side: {}
    channels: tuple[int, ...] = (1, 3, 4)

    def is_available(self) -> bool:
        """Whether this Pillow was built with the codec."""
        # `features.check` warns of a name that is newer than this Pillow.
        return self.feature in features.get_supported()

    def encode(self, image: UInt8[np.ndarray, "h w c"], options: Mapping[str, Any]) -> bytes:
        """Encodes an image as a whole file."""
        file = io.BytesIO()
        options = {**options, **self.options_of_side(min(image.shape[:2]))}
        to_pil(image).save(file, self.format, **options)
        return file.getvalue()

    def decode(self, file: bytes, channels: int = 3) -> UInt8[np.ndarray, "h w {channels}"]:
        """Decodes a file of this codec."""
        with Image.open(io.BytesIO(file), formats=[self.format]) as image:
            return from_pil(image, channels)


def _resolutions(side: int) -> dict[str, int]:
    """Pillow's own six cost a small image a decibel and more by their headers."""
    return {"num_resolutions": min(6, max(1, side.bit_length() - 4))}


# Options that keep headers short, which weigh in files of some hundred bytes: Huffman tables of the
# image's own, a bare codestream. `mct` codes colours as luma and chroma, which Pillow does not do
# by itself; without it, JPEG 2000 loses one to three decibels.
_RATES = np.geomspace(1000, 1, 256).tolist()
_WAVELETS = {"irreversible": True, "no_jp2": True, "mct": 1, "quality_mode": "rates"}
CODECS = {
    "jpeg": Codec(
        "JPEG", "jpg", [{"quality": q, "optimize": True} for q in range(1, 96)], channels=(1, 3)
    ),
    "webp": Codec("WEBP", "webp", [{"quality": q, "method": 6} for q in range(101)]),
    "jpeg2000": Codec(
        "JPEG2000", "jpg_2000", [_WAVELETS | {"quality_layers": [r]} for r in _RATES], _resolutions
    ),
    "avif": Codec("AVIF", "avif", [{"quality": q} for q in range(101)]),
}


@dataclass(frozen=True)
class File:
    """An image as a file.

    Attributes:
        content: all bytes, headers included.
        options: of the codec, that it was encoded with.
        above: whether the codec has no file of the image as small as was asked for.
    """

    content: bytes
    options: Mapping[str, Any]
    above: bool


def nearest_file(codec: Codec, image: UInt8[np.ndarray, "h w c"], target: float) -> File:
    """Encodes an image to the file whose size is nearest to `target` bytes, by bisection over the
    codec's options.
    """
    tried: dict[int, bytes] = {}

    def size(option: int) -> int:
        tried[option] = codec.encode(image, codec.options[option])
        return len(tried[option])

    larger = bisect_right(range(len(codec.options)), target, key=size)
    nearest = min(tried, key=lambda option: abs(len(tried[option]) - target))
    above = larger == 0 and len(tried[nearest]) > target
    return File(tried[nearest], codec.options[nearest], above)


def nearest_files(
    codec: Codec, images: Sequence[UInt8[np.ndarray, "h w c"]], target: float
) -> Iterator[File]:
    """`nearest_file` of every image, in order."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda image: nearest_file(codec, image, target), images)
