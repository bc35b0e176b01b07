"""Frechet and kernel distances between two sets of features."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from avq.errors import InputError

SUBSETS, SUBSET_SIZE = 100, 1000  # as published for the kernel distance


class Moments(NamedTuple):
    """Mean and scatter of features, in float64. They take the same memory however many features
    they are of, and those of parts merge to those of the whole.

    Attributes:
        n: number of feature vectors.
        mean: over them.
        scatter: sum over them of the outer product of a vector's difference from the mean.
    """

    n: int
    mean: Float[np.ndarray, "d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def none(cls, d: int) -> "Moments":
        """Of no vectors, of `d` features."""
        return cls(0, np.zeros(d), np.zeros((d, d)))

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Moments":
        """Of one or more feature vectors."""
        x = features.astype(np.float64)
        mean = x.mean(axis=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def merge(self, other: "Moments") -> "Moments":
        """Of the vectors of both, of which one may have none.

        Reference: Chan, Golub and LeVeque (1979).
        """
        n = self.n + other.n
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), self.scatter + other.scatter + between)

    def root(self) -> Float[np.ndarray, "d d"]:
        """A matrix whose product with its transpose is the covariance.

        Raises:
            InputError: when there are fewer vectors than features: the covariance would be known in
                a part of the directions alone, and distances be too large by an unknown amount.
        """
        require_enough(self.n, len(self.mean))
        values, vectors = np.linalg.eigh(self.scatter / (self.n - 1))
        # Directions without variance come out as rounding errors of either sign.
        noise = values[-1] * len(values) * np.finfo(np.float64).eps
        return vectors * np.sqrt(np.where(values > noise, values, 0.0))


def require_enough(images: int, features: int) -> None:
    """Refuses a Frechet distance of fewer images than features.

    Raises:
        InputError: saying so.
    """
    if images < features:
        raise InputError(
            f"a Frechet distance over {features:,} features needs at least as many images, and "
            f"there are {images:,}. Give more images, or --no-fid for the kernel distance alone."
        )


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet distance between the normal distributions of these moments.

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) with means m and covariances S. The trace of
    the root is the sum of the singular values of R_a^T R_b, where R R^T = S: no root of a matrix
    that is symmetric in theory only. Reference: Heusel et al. (2017), over the pool features of
    `InceptionV3` the "FID".

    Raises:
        InputError: when a side has fewer vectors than features.
    """
    overlap = np.linalg.svd(a.root().T @ b.root(), compute_uv=False).sum()
    spread = np.trace(a.scatter) / (a.n - 1) + np.trace(b.scatter) / (b.n - 1)
    between = np.sum(np.square(a.mean - b.mean))
    return max(0.0, float(between + spread - 2 * overlap))  # rounding may leave it below 0


def kernel_distances(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "s"]:
    """Squared maximum mean discrepancies, unbiased, of the kernel (x.y / d + 1)^3, one for each of
    several pairs of random subsets.

    Reference: Binkowski et al. (2018), whose mean over the pool features of `InceptionV3` is the
    "KID": 100 subsets of 1,000 vectors a side. Of fewer vectors there is one subset, all of them.

    Raises:
        InputError: of fewer than two vectors a side.
    """
    size = min(len(a), len(b), SUBSET_SIZE)
    if size < 2:
        raise InputError("a kernel distance needs at least two images. Give more.")
    rng = np.random.default_rng(0)

    def subset(features: np.ndarray) -> np.ndarray:
        return features[rng.choice(len(features), size, replace=False)].astype(np.float64)

    subsets = SUBSETS if size == SUBSET_SIZE else 1
    return np.array([_discrepancy(subset(a), subset(b)) for _ in range(subsets)])


def _discrepancy(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]) -> float:
    n = len(x)
    within = 0.0
    for side in (x, y):
        pairs = _kernel(side, side)
        within += (pairs.sum() - np.trace(pairs)) / (n * (n - 1))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    product = x @ y.T / x.shape[1] + 1
    cube: np.ndarray = product * product * product  # ten times as fast as a power
    return cube
