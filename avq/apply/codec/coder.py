"""Codes of an image to bytes and back, by range coding."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from avq.apply.codec.network import TOTAL, Network
from avq.apply.codec.order import Step, contexts, steps
from avq.errors import InputError

AT_ONCE = 256  # codes that are predicted together: their frequencies fit into a cache
Grid = Int[np.ndarray, "_h _w"]


class Coder:
    """Entropy coder of the codes of images.

    Attributes:
        networks: of the levels, finest first.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = networks

    def encode(self, grids: Sequence[Grid]) -> bytes:
        """Bytes of an image's codes, finest level first; none where there are no codes."""
        stream = _library()
        encoder = stream.queue.RangeEncoder()
        for codes, frequencies in self._predicted(grids):
            encoder.encode(codes.astype(np.int32), _family(stream), frequencies)
        words: np.ndarray = encoder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")  # the decoder's own padding

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]]) -> tuple[Grid, ...]:
        """Codes of an image.

        Args:
            data: of `encode`.
            shapes: of the grids, finest first.

        Raises:
            InputError: for bytes that no codes of such shapes are encoded to.
        """
        stream = _library()
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), "<u4").astype(np.uint32)
        decoder = stream.queue.RangeDecoder(words)
        grids = [np.zeros(shape, np.int32) for shape in shapes]
        for level, step in self._steps(grids):
            rows, columns = step.places
            view = grids[level][rows, columns]
            flat = np.empty(view.size, np.int32)
            for part, frequencies in self._predictions(level, step, grids):
                try:
                    flat[part] = decoder.decode(_family(stream), frequencies)
                except AssertionError as error:  # the library's word for impossible bytes
                    raise InputError("the codes are damaged") from error
            view[...] = flat.reshape(view.shape)
        return tuple(grids)

    def bits(self, grids: Sequence[Grid]) -> list[float]:
        """Cross-entropy of each level's codes, finest first: the bits that they take, but for the
        rounding of a file to whole bytes.
        """
        each = [0.0] * len(grids)
        for level, step in self._steps(grids):
            flat = grids[level][step.places].reshape(-1)
            for part, frequencies in self._predictions(level, step, grids):
                chosen = np.take_along_axis(frequencies, flat[part, None], axis=1) + 1
                each[level] -= float(np.log2(chosen / TOTAL).sum())
        return each

    def _steps(self, grids: Sequence[Grid]) -> Iterator[tuple[int, Step]]:
        """Steps of all levels that have codes in these grids."""
        for level in reversed(range(len(grids))):
            height, width = grids[level].shape
            for step in steps(height, width, has_parent=level + 1 < len(grids)):
                if grids[level][step.places].size:
                    yield level, step

    def _predictions(
        self, level: int, step: Step, grids: Sequence[Grid]
    ) -> Iterator[tuple[slice, Float[np.ndarray, "_n _c"]]]:
        """Frequencies of the codes of a step, in parts."""
        sizes = [len(network.own) - 1 for network in self.networks[level : level + 2]]
        parent = grids[level + 1] if level + 1 < len(grids) else None
        around = contexts(step, grids[level], parent, sizes)
        flat = around.reshape(-1, around.shape[-1])
        for start in range(0, len(flat), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            yield part, self.networks[level].frequencies(step.kind, flat[part])

    def _predicted(
        self, grids: Sequence[Grid]
    ) -> Iterator[tuple[Int[np.ndarray, "_n"], Float[np.ndarray, "_n _c"]]]:
        """Codes in the order of coding, with their frequencies."""
        for level, step in self._steps(grids):
            flat = grids[level][step.places].reshape(-1)
            for part, frequencies in self._predictions(level, step, grids):
                yield flat[part], frequencies


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
