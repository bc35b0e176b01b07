"""Range coding of integers by their frequencies."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from avq.errors import InputError

TOTAL = 1 << 24  # of the frequencies of an integer
Digits = Int[np.ndarray, "n"]
Frequencies = Float[np.ndarray, "n _c"]  # each less 1, so that they add up to TOTAL - c


class Encoder:
    """Integers to bytes."""

    def __init__(self) -> None:
        stream = _library()
        self._coder, self._family = stream.queue.RangeEncoder(), _family(stream)

    def encode(self, digits: Digits, frequencies: Frequencies) -> None:
        """Adds integers."""
        self._coder.encode(digits, self._family, frequencies)

    def content(self) -> bytes:
        """Bytes of all of them."""
        words: np.ndarray = self._coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")  # the decoder's own padding


class Decoder:
    """Bytes of an `Encoder` to integers."""

    def __init__(self, data: bytes) -> None:
        stream = _library()
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), "<u4").astype(np.uint32)
        self._coder, self._family = stream.queue.RangeDecoder(words), _family(stream)

    def decode(self, frequencies: Frequencies) -> Digits:
        """The next integers.

        Raises:
            InputError: for bytes that no integers are encoded to.
        """
        try:
            digits: np.ndarray = self._coder.decode(self._family, frequencies)
        except AssertionError as error:  # the library's word for impossible bytes
            raise InputError("the codes are damaged") from error
        return digits


def _library() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise InputError(
            "compressed files need constriction, which pip has no build of for this machine. "
            "Build it from https://github.com/bamler-lab/constriction"
        ) from error
    return constriction.stream


def _family(stream: Any) -> Any:
    """Models whose frequencies are exactly the given numbers plus 1.

    constriction cuts cumulative sums of the given numbers, times `(2^24 - n) / sum`, to integers
    and adds 1 a code. For integers of that very sum the factor is 1 and nothing is cut. The other
    algorithm, `perfect=True`, takes logarithms; it was the default before 0.5.
    """
    return stream.model.Categorical(perfect=False)
