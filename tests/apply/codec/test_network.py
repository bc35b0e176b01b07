"""Networks of integers, against arithmetic of whole numbers."""

from dataclasses import replace

import numpy as np
import pytest

from avq.apply.codec.network import HIGHEST, TOTAL, Network
from avq.errors import InputError

from .codec_helpers import random_network


def contexts(n, network, seed=0):
    rng = np.random.default_rng(seed)
    near = rng.integers(0, len(network.own), (n, 4))
    around = rng.integers(0, max(len(network.parent), 1), (n, 9))
    return np.concatenate([near, around], axis=1) if len(network.parent) else near


def whole_numbers(network, kind, row):
    """Frequencies by Python's integers."""
    own, parent = network.own.tolist(), network.parent.tolist()
    inputs = [v for code in row[:4] for v in own[code]]
    inputs += [v for code in row[4:] for v in parent[code]]
    first, second = network.first[kind].tolist(), network.second.tolist()
    hidden = []
    for unit, bias in enumerate(network.first_bias[kind].tolist()):
        total = bias + sum(v * weights[unit] for v, weights in zip(inputs, first, strict=True))
        hidden.append(min(max(total >> int(network.shifts[0]), 0), HIGHEST))
    sums = [
        bias + sum(h * weights[code] for h, weights in zip(hidden, second, strict=True))
        for code, bias in enumerate(network.second_bias[kind].tolist())
    ]
    decay, shift = network.decay.tolist(), int(network.shifts[1])
    weights = [decay[min((max(sums) - s) >> shift, len(decay) - 1)] for s in sums]
    free = TOTAL - len(weights)
    shares = [w * ((free << 16) // sum(weights)) >> 16 for w in weights]
    shares[weights.index(max(weights))] += free - sum(shares)
    return shares


@pytest.mark.parametrize(("codes", "parent"), [(8, 0), (5, 11), (1, 1), (256, 7)])
def test_frequencies_are_those_of_whole_numbers(codes, parent):
    network = random_network(1, codes, parent)
    around = contexts(20, network)
    for kind in range(len(network.first)):
        found = network.frequencies(kind, around)
        expected = [whole_numbers(network, kind, row) for row in around.tolist()]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sharpness", [0, 4, 24])
def test_frequencies_and_1_for_each_code_add_up_to_the_total(sharpness):
    network = random_network(2, 300, 20, sharpness)
    found = network.frequencies(1, contexts(500, network))
    assert found.min() >= 0
    np.testing.assert_array_equal(found.sum(axis=1), TOTAL - 300)
    assert sharpness or found.max() > 0.9 * TOTAL


def test_frequencies_of_a_code_do_not_depend_on_the_batch():
    network = random_network(3, 40, 9)
    around = contexts(64, network)
    together = network.frequencies(2, around)
    for n in (1, 3, 17):
        parts = [network.frequencies(2, around[i : i + n]) for i in range(0, 64, n)]
        np.testing.assert_array_equal(together, np.concatenate(parts))


def changed(network: Network, name, values) -> Network:
    return replace(network, **{name: np.asarray(values)})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("own", lambda v: v[:, :2], "parent is"),
        ("own", lambda v: v[:1], "second is"),
        ("own", lambda v: v.astype(np.uint8), "own is uint8"),
        ("parent", lambda v: v[:0], "first is"),
        ("first", lambda v: v[:2], "first is"),
        ("first", lambda v: v * 1000, "may not be exact"),
        ("second", lambda v: v * 1000, "may not be exact"),
        ("first_bias", lambda v: v - (1 << 23), "may not be exact"),
        ("second_bias", lambda v: v[0], "second_bias is"),
        ("shifts", lambda v: v - 100, "shifts are"),
        ("shifts", lambda v: v + 100, "shifts are"),
        ("decay", lambda v: v[:0], "hidden units"),
        ("decay", lambda v: v * 0, "decay is out of its range"),
        ("decay", lambda v: v * 2, "decay is out of its range"),
    ],
)
def test_damaged_network_is_refused(name, change, message):
    network = random_network(4, 6, 5)
    with pytest.raises(InputError, match=message):
        changed(network, name, change(getattr(network, name)))
