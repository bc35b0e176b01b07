"""Codes of an image to bytes and back, by range coding."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from avq.apply.codec.network import Network
from avq.apply.codec.order import contexts, steps
from avq.apply.codec.ranges import TOTAL, Decoder, Digits, Encoder

TOGETHER = 2048  # codes of a step whose clusters are all coded before their places
Grid = Int[np.ndarray, "_h _w"]
Visit = Callable[[int, Digits, Float[np.ndarray, "n _c"]], Digits]


class Coder:
    """Entropy coder of the codes of images.

    Attributes:
        networks: of the levels, finest first.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = networks

    def encode(self, grids: Sequence[Grid]) -> bytes:
        """Bytes of an image's codes, finest level first; none where there are no codes."""
        encoder = Encoder()

        def visit(level: int, digits: Digits, frequencies: Float[np.ndarray, "n _c"]) -> Digits:
            encoder.encode(digits, frequencies)
            return digits

        self._visit([grid.astype(np.int32) for grid in grids], visit)
        return encoder.content()

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]]) -> tuple[Grid, ...]:
        """Codes of an image.

        Args:
            data: of `encode`.
            shapes: of the grids, finest first.

        Raises:
            InputError: for bytes that no codes of such shapes are encoded to.
        """
        decoder = Decoder(data)

        def visit(level: int, digits: Digits, frequencies: Float[np.ndarray, "n _c"]) -> Digits:
            return decoder.decode(frequencies)

        grids = tuple(np.zeros(shape, np.int32) for shape in shapes)
        self._visit(grids, visit)
        return grids

    def bits(self, grids: Sequence[Grid]) -> list[float]:
        """Cross-entropy of each level's codes, finest first: the bits that they take, but for the
        rounding of a file to whole bytes.
        """
        each = [0.0] * len(grids)

        def visit(level: int, digits: Digits, frequencies: Float[np.ndarray, "n _c"]) -> Digits:
            chosen = np.take_along_axis(frequencies, digits[:, None], axis=1) + 1
            each[level] -= float(np.log2(chosen / TOTAL).sum())
            return digits

        self._visit([grid.astype(np.int32) for grid in grids], visit)
        return each

    def _visit(self, grids: Sequence[Grid], visit: Visit) -> None:
        """Replaces codes by those that `visit` returns, in the order of coding.

        Args:
            grids: of an image, finest level first; what is not known yet is not read.
            visit: function of the level, of digits, and of their frequencies, each less 1.
        """
        for level in reversed(range(len(grids))):
            network, grid = self.networks[level], grids[level]
            parent = grids[level + 1] if level + 1 < len(grids) else None
            sizes = [len(each.ranks) for each in self.networks[level : level + 2]]
            height, width = grid.shape
            for step in steps(height, width, has_parent=parent is not None):
                around, codes = contexts(step, grid, parent, sizes), grid[step.places]
                flat = around.reshape(-1, around.shape[-1]), codes.reshape(-1)
                for start in range(0, codes.size, TOGETHER):
                    known, some = (values[start : start + TOGETHER] for values in flat)
                    hidden = network.hidden(step.kind, known)
                    some[:] = _visited(network, hidden, some, partial(visit, level))
                grid[step.places] = flat[1].reshape(codes.shape)


def _visited(
    network: Network,
    hidden: Float[np.ndarray, "n _h"],
    codes: Digits,
    visit: Callable[[Digits, Float[np.ndarray, "n _c"]], Digits],
) -> Digits:
    """Codes whose digits `visit` returns: all clusters, then the places cluster by cluster."""
    cluster, place = network.split(codes)
    cluster = visit(cluster, network.of_clusters(hidden))
    order = np.argsort(cluster, kind="stable")
    frequencies = network.of_places(hidden[order], cluster[order])
    place[order] = visit(place[order], frequencies)
    return network.joined(cluster, place)
