"""Networks of integers that predict codes from those around them.

Everything is a sum, a product, a shift or a table of integers. They are carried as floats that stay
below 2^24, where float32 is exact: the order of a sum does not matter, and every processor and
version of numpy finds the same frequencies.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int, Integer

from avq.apply.codec.order import AROUND, NEAR, kinds
from avq.errors import InputError

EXACT = 1 << 23  # bound of sums; float32 holds all integers up to 2^24, differences of sums, too
TOTAL = 1 << 24  # of the frequencies of the codes
HIGHEST = 255  # value of a hidden unit
LIKELIEST = 1 << 16  # weight of the likeliest code
MAX_CODES = 4096  # of a codebook


@dataclass(frozen=True)
class Network:
    """Predicts the codes of a level: embeddings of the codes around them, a hidden layer, and a sum
    for each code, which a table turns into its weight.

    Attributes:
        own: embedding of each code of the level; the last row is of what lies outside.
        parent: the same of the coarser level, without rows where there is none.
        first, first_bias: weights and biases of the hidden units, by kind of step.
        second, second_bias: of the codes; the biases by kind of step.
        shifts: bits that the sums of either layer are shifted by.
        decay: weight of a code by how far its sum is below that of the likeliest.
    """

    own: Integer[np.ndarray, "..."]
    parent: Integer[np.ndarray, "..."]
    first: Integer[np.ndarray, "..."]
    first_bias: Integer[np.ndarray, "..."]
    second: Integer[np.ndarray, "..."]
    second_bias: Integer[np.ndarray, "..."]
    shifts: Integer[np.ndarray, "..."]
    decay: Integer[np.ndarray, "..."]

    def __post_init__(self) -> None:
        """Raises:
        InputError: where shapes do not fit together, or a sum could leave the exact range.
        """
        if problem := self._problem():
            raise InputError(f"a network of the codec is damaged: {problem}.")
        # A shift is a factor that is a power of two, which the floats' exponents take. The sums of
        # codes are negated, so that they become how far a code is below the likeliest.
        first, second = np.ldexp(1.0, -self.shifts)
        factors = {"first": first, "second": -second}
        for name, values in self.arrays().items():
            scaled = values * factors.get(name.removesuffix("_bias"), 1.0)
            object.__setattr__(self, f"_{name}", scaled.astype(np.float32))

    def arrays(self) -> dict[str, Int[np.ndarray, "..."]]:
        """The attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def frequencies(self, kind: int, contexts: Int[np.ndarray, "n s"]) -> Float[np.ndarray, "n c"]:
        """Frequencies of the codes, each less 1: integers that add up to `TOTAL` less their number,
        which is 2 where the codebook has one code.

        Args:
            kind: of the step.
            contexts: see `order.contexts`.
        """
        rows, values = len(contexts), vars(self)
        near = values["_own"][contexts[:, :NEAR]].reshape(rows, -1)
        around = values["_parent"][contexts[:, NEAR:]].reshape(rows, -1)
        hidden = np.hstack([near, around]) @ values["_first"][kind]
        hidden += values["_first_bias"][kind]
        np.clip(np.floor(hidden, out=hidden), 0, HIGHEST, out=hidden)
        below = hidden @ values["_second"]
        below += values["_second_bias"][kind]
        below -= below[np.arange(rows), below.argmin(axis=1)][:, None]
        return _scaled(self.decay.take(below.astype(np.int64), mode="clip"))

    def _problem(self) -> str:
        """What is wrong with the arrays; empty where nothing is."""
        for name, dimensions in _DIMENSIONS.items():
            values = getattr(self, name)
            if values.ndim != dimensions or not np.issubdtype(values.dtype, np.signedinteger):
                return f"{name} is {values.dtype} {values.shape}"
        (count, dim), hidden = self.own.shape, self.second.shape[0]
        number, codes = kinds(len(self.parent) > 0), max(count - 1, 2)
        slots = NEAR + len(AROUND) * (len(self.parent) > 0)
        expected = {
            "parent": (len(self.parent), dim),
            "first": (number, slots * dim, hidden),
            "first_bias": (number, hidden),
            "second": (hidden, codes),
            "second_bias": (number, codes),
            "shifts": (2,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                return f"{name} is {getattr(self, name).shape}, not {shape}"
        if not (count > 1 and dim and hidden and codes <= MAX_CODES and len(self.decay)):
            return f"{count - 1} codes, {dim} channels, {hidden} hidden units"
        if self.shifts.min() < 0 or self.shifts.max() > 24:
            return f"shifts are {self.shifts}"
        if self.decay[0] < 1 or self.decay.min() < 0 or self.decay.max() > LIKELIEST:
            return "decay is out of its range"
        return "" if self._largest_sum() <= EXACT else "its sums may not be exact"

    def _largest_sum(self) -> int:
        """Bound of the sums of both layers."""
        embedded = max(_largest(self.own), _largest(self.parent))
        first = embedded * _largest(np.abs(self.first.astype(np.int64)).sum(axis=1))
        second = HIGHEST * _largest(np.abs(self.second.astype(np.int64)).sum(axis=0))
        return max(first + _largest(self.first_bias), second + _largest(self.second_bias))


_DIMENSIONS = {
    "own": 2,
    "parent": 2,
    "first": 3,
    "first_bias": 2,
    "second": 2,
    "second_bias": 2,
    "shifts": 1,
    "decay": 1,
}


def _largest(values: Int[np.ndarray, "..."]) -> int:
    return int(np.abs(values.astype(np.int64)).max(initial=0))


def _scaled(weights: Int[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Shares out what the frequencies have above 1 each by weight; the first of the likeliest codes
    has what rounding leaves.
    """
    free = TOTAL - weights.shape[1]
    factors = free * LIKELIEST // weights.sum(axis=1, dtype=np.int64)
    # Products are at most `free * LIKELIEST`, below 2^40: exact in float64.
    shares = weights.astype(np.float64)
    shares *= (factors / LIKELIEST)[:, None]
    np.floor(shares, out=shares)
    shares[np.arange(len(shares)), weights.argmax(axis=1)] += free - shares.sum(axis=1)
    return shares
