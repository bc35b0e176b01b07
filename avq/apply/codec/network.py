"""Networks of integers that predict codes from those around them.

A code is coded as two digits: a cluster of the codebook, and its place there. So two tables of 32
frequencies do what one of 1,024 would, in a tenth of the time.

Everything is a sum, a product, a shift or a table of integers. They are carried as floats that stay
below 2^24, where float32 is exact: the order of a sum does not matter, and every processor and
version of numpy finds the same frequencies.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int, Integer

from avq.apply.codec.order import kinds, slots
from avq.apply.codec.ranges import TOTAL
from avq.errors import InputError

EXACT = 1 << 23  # bound of sums; float32 holds all integers up to 2^24, differences of sums, too
HIGHEST = 255  # value of a hidden unit
LIKELIEST = 1 << 14  # weight of the likeliest digit
FACTOR_BITS = 10  # of the factor from weights to frequencies: float32 holds their products
MAX_CODES = 4096  # of a codebook


def digits(codes: int) -> tuple[int, int]:
    """Number of clusters of a codebook, and of places in each; at least 2, as a digit needs."""
    clusters = max(2, math.isqrt(codes - 1) + 1)
    return clusters, max(2, -(-codes // clusters))


@dataclass(frozen=True)
class Network:
    """Predicts the codes of a level: embeddings of the codes around them, a hidden layer, and a sum
    for each cluster and place, which a table turns into its weight.

    Attributes:
        embeddings: of what is around a code, see `order.contexts`.
        ranks: of the codes in the order of clusters and places.
        first, first_bias: weights and biases of the hidden units, by kind of step.
        clusters: weights of the clusters by hidden unit, and a last row of their biases.
        places: the same of the places in each cluster.
        shifts: bits that the sums of hidden units, clusters and places are shifted by.
        decay: weight of a digit by how far its sum is below that of the likeliest.
    """

    embeddings: Integer[np.ndarray, "..."]
    ranks: Integer[np.ndarray, "..."]
    first: Integer[np.ndarray, "..."]
    first_bias: Integer[np.ndarray, "..."]
    clusters: Integer[np.ndarray, "..."]
    places: Integer[np.ndarray, "..."]
    shifts: Integer[np.ndarray, "..."]
    decay: Integer[np.ndarray, "..."]

    def __post_init__(self) -> None:
        """Raises:
        InputError: where shapes do not fit together, or a sum could leave the exact range.
        """
        if problem := self._problem():
            raise InputError(f"a network of the codec is damaged: {problem}.")
        # A shift is a factor that is a power of two, which the floats' exponents take. The sums of
        # digits are negated, so that they become how far a digit is below the likeliest.
        hidden, clusters, places = np.ldexp(1.0, -self.shifts)
        scaled = {
            "embeddings": self.embeddings,
            "first": self.first * hidden,
            "first_bias": self.first_bias * hidden,
            "clusters": -clusters * self.clusters.T,
            "places": -places * self.places.transpose(0, 2, 1),
            "decay": self.decay,
        }
        for name, values in scaled.items():
            object.__setattr__(self, f"_{name}", np.ascontiguousarray(values, np.float32))
        object.__setattr__(self, "_codes", np.argsort(self.ranks).astype(np.int32))

    def arrays(self) -> dict[str, Int[np.ndarray, "..."]]:
        """The attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def split(
        self, codes: Int[np.ndarray, "n"]
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Clusters of codes, and their places there."""
        cluster, place = np.divmod(self.ranks[codes], self.places.shape[2])
        return cluster.astype(np.int32), place.astype(np.int32)

    def joined(
        self, cluster: Int[np.ndarray, "n"], place: Int[np.ndarray, "n"]
    ) -> Int[np.ndarray, "n"]:
        """Codes from their clusters and places.

        Raises:
            InputError: for places that no code has.
        """
        ranks = cluster * self.places.shape[2] + place
        if ranks.max(initial=0) >= len(self.ranks):
            raise InputError("the codes are damaged")
        codes: np.ndarray = vars(self)["_codes"][ranks]
        return codes

    def hidden(self, kind: int, contexts: Int[np.ndarray, "n s"]) -> Float[np.ndarray, "n h"]:
        """Hidden units, integers from 0 to `HIGHEST`, and a last one that is 1.

        Args:
            kind: of the step.
            contexts: see `order.contexts`.
        """
        rows, values = len(contexts), vars(self)
        around = values["_embeddings"].take(contexts, axis=0).reshape(rows, -1)
        sums = around @ values["_first"][kind]
        sums += values["_first_bias"][kind]
        np.clip(np.floor(sums, out=sums), 0, HIGHEST, out=sums)
        units = np.ones((rows, sums.shape[1] + 1), np.float32)
        units[:, :-1] = sums
        return units

    def of_clusters(self, hidden: Float[np.ndarray, "n h"]) -> Float[np.ndarray, "n c"]:
        """Frequencies of the clusters, each less 1: integers that add up to `TOTAL` less their
        number.
        """
        return self._frequencies(vars(self)["_clusters"] @ hidden.T)

    def of_places(
        self, hidden: Float[np.ndarray, "n h"], cluster: Int[np.ndarray, "n"]
    ) -> Float[np.ndarray, "n m"]:
        """Frequencies of the places in clusters, as `of_clusters`.

        Args:
            hidden: of the codes.
            cluster: of each code, in ascending order.
        """
        weights = vars(self)["_places"]
        below = np.empty((weights.shape[1], len(cluster)), np.float32)
        bounds = np.searchsorted(cluster, np.arange(len(weights) + 1)).tolist()
        for table, start, stop in zip(weights, bounds[:-1], bounds[1:], strict=True):
            if stop > start:
                np.matmul(table, hidden[start:stop].T, out=below[:, start:stop])
        return self._frequencies(below)

    def _frequencies(self, below: Float[np.ndarray, "c n"]) -> Float[np.ndarray, "n c"]:
        """Shares out by weight what the frequencies have above 1 each; the first digit has what
        rounding leaves.
        """
        free = TOTAL - len(below)
        below -= below.min(axis=0)
        shares = vars(self)["_decay"].take(below.astype(np.intp), mode="clip")
        shares *= _leading(free / shares.sum(axis=0, dtype=np.float64))
        np.floor(shares, out=shares)
        shares[0] += free - shares.sum(axis=0)
        return np.ascontiguousarray(shares.T)

    def _problem(self) -> str:
        """What is wrong with the arrays; empty where nothing is."""
        for name, dimensions in _DIMENSIONS.items():
            values = getattr(self, name)
            if values.ndim != dimensions or not np.issubdtype(values.dtype, np.signedinteger):
                return f"{name} is {values.dtype} {values.shape}"
        codes, (rows, dim), hidden = len(self.ranks), self.embeddings.shape, self.first.shape[2]
        if not (0 < codes <= MAX_CODES and codes < rows and dim and hidden and len(self.decay)):
            return f"{codes} codes, {rows} rows, {dim} channels, {hidden} hidden units"
        has_parent = rows > codes + 1
        clusters, places = digits(codes)
        expected = {
            "first": (kinds(has_parent), slots(has_parent) * dim, hidden),
            "first_bias": (kinds(has_parent), hidden),
            "clusters": (hidden + 1, clusters),
            "places": (clusters, hidden + 1, places),
            "shifts": (3,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                return f"{name} is {getattr(self, name).shape}, not {shape}"
        if not np.array_equal(np.sort(self.ranks), np.arange(codes)):
            return "ranks are not those of its codes"
        if self.shifts.min() < 0 or self.shifts.max() > 24:
            return f"shifts are {self.shifts}"
        if self.decay[0] < 1 or self.decay.min() < 0 or self.decay.max() > LIKELIEST:
            return "decay is out of its range"
        return "" if self._largest_sum() <= EXACT else "its sums may not be exact"

    def _largest_sum(self) -> int:
        """Bound of the sums of both layers."""
        first = _largest(np.abs(self.first.astype(np.int64)).sum(axis=1))
        digit = (
            HIGHEST * _largest(np.abs(table[..., :-1, :].astype(np.int64)).sum(axis=-2))
            + _largest(table[..., -1, :])
            for table in (self.clusters, self.places)
        )
        return max(_largest(self.embeddings) * first + _largest(self.first_bias), *digit)


_DIMENSIONS = {
    "embeddings": 2,
    "ranks": 1,
    "first": 3,
    "first_bias": 2,
    "clusters": 2,
    "places": 3,
    "shifts": 1,
    "decay": 1,
}


def _leading(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Numbers cut to their first `FACTOR_BITS` bits."""
    parts, exponents = np.frexp(values)
    leading = np.floor(np.ldexp(parts, FACTOR_BITS)).astype(np.float32)
    cut: np.ndarray = np.ldexp(leading, exponents - FACTOR_BITS)
    return cut


def _largest(values: Int[np.ndarray, "..."]) -> int:
    return int(np.abs(values.astype(np.int64)).max(initial=0))
