"""A fixed number of random squares of images that training takes random squares of."""

import numpy as np
from jaxtyping import UInt8

from avq.data.sources.base import Source
from avq.data.views import SquareView


class RandomSquares:
    """Random squares of a source that asks for augmentation, as training sees them; the same ones
    at every call.

    Args:
        source: of whole images, which take turns.
        size: side of the squares, pixels.
        count: number of squares.
    """

    augment = False

    def __init__(self, source: Source, size: int, count: int) -> None:
        self._source, self._count = source, count
        self._view = SquareView(size, augment=True)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        image = self._source[index % len(self._source)]
        return self._view(image, np.random.default_rng(index))

    def name(self, index: int) -> str:
        """Name of the image, and which square of it."""
        return f"{self._source.name(index % len(self._source))}#{index // len(self._source)}"
