"""Harmonic fill: the smoothest continuation of known values into a hole."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.sparse.linalg import splu

from avq.errors import InputError


def harmonic_fill(
    values: Float[np.ndarray, "h w c"], hole: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w c"]:
    """Replaces the values in a hole by the solution of Laplace's equation: each is the mean of its
    neighbours above, below, left and right, as far as the image has them.

    Raises:
        InputError: when the hole is the whole image.
    """
    if hole.all():
        raise InputError("the mask covers the whole image. Leave something to continue.")
    filled = values.copy()
    if not hole.any():
        return filled
    inside = hole.ravel()
    pixel, neighbour = _neighbours(hole.shape)
    pixel, neighbour = pixel[inside[pixel]], neighbour[inside[pixel]]
    unknown = inside[neighbour]
    row = np.cumsum(inside) - 1  # of the system of equations, by pixel
    n = int(inside.sum())

    def ones(rows: np.ndarray, columns: np.ndarray, width: int) -> sparse.coo_matrix:
        return sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (n, width))

    degrees = sparse.diags(np.bincount(row[pixel], minlength=n).astype(float))
    laplacian = degrees - ones(row[pixel[unknown]], row[neighbour[unknown]], n)
    border = ones(row[pixel[~unknown]], neighbour[~unknown], hole.size)
    known = border @ values.reshape(hole.size, -1).astype(float)
    filled[hole] = splu(laplacian.tocsc()).solve(known)
    return filled


def _neighbours(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of pixels side by side, each pair both ways, by their row-major index."""
    index = np.arange(np.prod(shape)).reshape(shape)
    pairs = [(index[:-1], index[1:]), (index[:, :-1], index[:, 1:])]
    first = [side.ravel() for a, b in pairs for side in (a, b)]
    second = [side.ravel() for a, b in pairs for side in (b, a)]
    return np.concatenate(first), np.concatenate(second)
