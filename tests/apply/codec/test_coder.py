"""Codes to bytes and back, also by a decoder of Python's integers alone."""

import itertools

import numpy as np
import pytest

from avq.apply.codec.coder import Coder
from avq.apply.codec.order import contexts, steps
from avq.apply.codec.ranges import TOTAL

from .codec_helpers import random_grids, random_network

CODERS = {
    "one level": Coder([random_network(0, 12)]),
    "two levels": Coder([random_network(1, 200, 30), random_network(2, 30)]),
    "three levels": Coder(
        [random_network(3, 9, 8, 2), random_network(4, 8, 7, 0), random_network(5, 7, 0, 6)]
    ),
    "one code": Coder([random_network(6, 1)]),
}


def sizes(coder):
    return [len(network.ranks) for network in coder.networks]


def shapes(coder, height, width):
    """Shapes of grids, finest first, the coarsest of such a size."""
    levels = len(coder.networks)
    return [(height << n, width << n) for n in reversed(range(levels))]


@pytest.mark.parametrize("name", CODERS)
def test_codes_come_back_and_bytes_are_as_many_as_predicted(name):
    coder, rng = CODERS[name], np.random.default_rng(0)
    small = itertools.product(range(4), range(4))
    bytes_, bits = [], []
    for height, width in [*small, *map(tuple, rng.integers(1, 12, (80, 2)).tolist())]:
        forms = shapes(coder, height, width)
        grids = random_grids(rng, forms, sizes(coder))
        data = coder.encode(grids)
        for found, expected in zip(coder.decode(data, forms), grids, strict=True):
            np.testing.assert_array_equal(found, expected)
        bytes_.append(len(data))
        bits.append(sum(coder.bits(grids)))
        assert bytes_[-1] <= bits[-1] / 8 + 8
    assert name == "one code" or sum(bytes_) > 0.98 * sum(bits) / 8


class IntegerDecoder:
    """Range decoder of 64-bit states and 32-bit words, in whole numbers."""

    def __init__(self, data):
        padded = data + b"\0" * (-len(data) % 4)
        words = np.frombuffer(padded, "<u4").tolist()
        self.words = itertools.chain(words, itertools.repeat(0))
        self.offset = next(self.words) << 32 | next(self.words)  # of the point above the range
        self.range = (1 << 64) - 1

    def decode(self, frequencies):
        unit = self.range // TOTAL
        place, cumulative = self.offset // unit, 0
        code = 0
        while place >= cumulative + frequencies[code]:
            cumulative += frequencies[code]
            code += 1
        self.offset -= cumulative * unit
        self.range = frequencies[code] * unit
        if self.range < 1 << 32:
            self.range <<= 32
            self.offset = self.offset << 32 | next(self.words)
        return code


@pytest.mark.parametrize("name", ["one level", "two levels", "three levels"])
def test_bytes_are_decoded_by_whole_numbers_alone(name, monkeypatch):
    monkeypatch.setattr("avq.apply.codec.coder.TOGETHER", 4)
    coder = CODERS[name]
    forms = shapes(coder, 6, 5)
    grids = random_grids(np.random.default_rng(2), forms, sizes(coder))
    decoder = IntegerDecoder(coder.encode(grids))
    for level in reversed(range(len(grids))):
        parent = grids[level + 1] if level + 1 < len(grids) else None
        for step in steps(forms[level][0], forms[level][1], has_parent=parent is not None):
            around = contexts(step, grids[level], parent, sizes(coder)[level : level + 2])
            flat = around.reshape(-1, around.shape[-1])
            expected = grids[level][step.places].reshape(-1)
            for start in range(0, len(flat), 4):
                part = slice(start, start + 4)
                found = decoded(decoder, coder.networks[level], step.kind, flat[part])
                assert found == expected[part].tolist()


def decoded(decoder, network, kind, around):
    """Codes that are coded together: all clusters, then the places in the order of clusters."""
    hidden = network.hidden(kind, around)
    cluster = [decoder.decode(frequencies(row)) for row in network.of_clusters(hidden)]
    place = [0] * len(cluster)
    for n in sorted(range(len(cluster)), key=lambda n: cluster[n]):
        (row,) = network.of_places(hidden[n : n + 1], np.array(cluster[n : n + 1]))
        place[n] = decoder.decode(frequencies(row))
    ranks = [c * network.places.shape[2] + p for c, p in zip(cluster, place, strict=True)]
    return [network.ranks.tolist().index(rank) for rank in ranks]


def frequencies(row):
    return [int(f) + 1 for f in row]
