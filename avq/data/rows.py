"""Some rows of a source, in little memory."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int, Int64, UInt8

GROUP = 1024  # rows that are counted together; a multiple of 8


class ChosenRows(Sequence[int]):
    """Ascending rows, as a bit for each row of the source. A slice shares the bits.

    Args:
        bits: which rows, as `np.packbits` makes them.
    """

    def __init__(self, bits: UInt8[np.ndarray, "_"]) -> None:
        self._bits = bits
        padded = np.pad(np.bitwise_count(self._bits), (0, -len(self._bits) % (GROUP // 8)))
        self._ends = np.cumsum(padded.reshape(-1, GROUP // 8).sum(1, dtype=np.int64))
        self._places = range(int(self._ends[-1]) if len(self._ends) else 0)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = object.__new__(ChosenRows)
            part._bits, part._ends, part._places = self._bits, self._ends, self._places[index]
            return part
        place = self._places[index]
        return int(self._between(place, place + 1)[0])

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self), GROUP):
            yield from np.asarray(self[start : start + GROUP]).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Int64[np.ndarray, "n"]:
        return self._between(self._places.start, self._places.stop)

    def _between(self, start: int, stop: int) -> Int64[np.ndarray, "n"]:
        """Rows at the places from `start` to before `stop`."""
        if start >= stop:
            return np.zeros(0, np.int64)
        first, last = np.searchsorted(self._ends, [start, stop - 1], "right").tolist()
        bits = self._bits[first * GROUP // 8 : (last + 1) * GROUP // 8]
        rows: np.ndarray = first * GROUP + np.flatnonzero(np.unpackbits(bits))
        skipped = start - (int(self._ends[first - 1]) if first else 0)
        return rows[skipped : skipped + stop - start]


Rows: TypeAlias = Int[np.ndarray, "_"] | range | ChosenRows
