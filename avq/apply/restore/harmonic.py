"""Harmonic fill: the smoothest continuation of known values into a hole."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.sparse.linalg import splu

from avq.errors import InputError


class HarmonicFill:
    """Fills a hole, always the same, by solutions of Laplace's equation: each value is the mean of
    its neighbours above, below, left and right, as far as the image has them.

    Args:
        hole: true for pixels to fill.

    Raises:
        InputError: when the hole is the whole image.
    """

    def __init__(self, hole: Bool[np.ndarray, "h w"]) -> None:
        if hole.all():
            raise InputError("the mask covers the whole image. Leave something to continue.")
        self._hole, inside = hole, hole.ravel()
        pixel, neighbour = _neighbours(hole.shape)
        pixel, neighbour = pixel[inside[pixel]], neighbour[inside[pixel]]
        unknown = inside[neighbour]
        row = np.cumsum(inside) - 1  # of the system of equations, by pixel
        n = int(inside.sum())

        def ones(rows: np.ndarray, columns: np.ndarray, width: int) -> sparse.coo_matrix:
            return sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (n, width))

        degrees = sparse.diags(np.bincount(row[pixel], minlength=n).astype(float))
        laplacian = degrees - ones(row[pixel[unknown]], row[neighbour[unknown]], n)
        self._border = ones(row[pixel[~unknown]], neighbour[~unknown], hole.size)
        self._factors = splu(laplacian.tocsc()) if n else None

    def __call__(self, values: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
        """Replaces the values in the hole."""
        filled = values.copy()
        if self._factors is not None:
            known = self._border @ values.reshape(self._hole.size, -1).astype(float)
            filled[self._hole] = self._factors.solve(known)
        return filled


def _neighbours(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of pixels side by side, each pair both ways, by their row-major index."""
    index = np.arange(np.prod(shape)).reshape(shape)
    pairs = [(index[:-1], index[1:]), (index[:, :-1], index[:, 1:])]
    first = [side.ravel() for a, b in pairs for side in (a, b)]
    second = [side.ravel() for a, b in pairs for side in (b, a)]
    return np.concatenate(first), np.concatenate(second)
