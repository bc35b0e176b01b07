"""Networks of integers, against arithmetic of whole numbers."""

from dataclasses import replace

import numpy as np
import pytest

from avq.apply.codec.network import HIGHEST, Network, digits
from avq.apply.codec.ranges import TOTAL
from avq.errors import InputError

from .codec_helpers import random_network


def contexts(n, network, seed=0):
    rng = np.random.default_rng(seed)
    slots = network.first.shape[1] // network.embeddings.shape[1]
    return rng.integers(0, len(network.embeddings), (n, slots))


def whole_frequencies(sums, decay, shift):
    """Frequencies, less 1, of digits with such sums, by Python's integers."""
    weights = [decay[min((max(sums) - s) >> shift, len(decay) - 1)] for s in sums]
    free = TOTAL - len(weights)
    factor = (free << 16) // sum(weights)
    dropped = factor.bit_length() - 10
    shares = [w * (factor >> dropped << dropped) >> 16 for w in weights]
    shares[0] += free - sum(shares)
    return shares


def whole_numbers(network, kind, row):
    """Frequencies of clusters, and of the places in each, by Python's integers."""
    embeddings, first = network.embeddings.tolist(), network.first[kind].tolist()
    inputs = [v for code in row for v in embeddings[code]]
    hidden = []
    for unit, bias in enumerate(network.first_bias[kind].tolist()):
        total = bias + sum(v * weights[unit] for v, weights in zip(inputs, first, strict=True))
        hidden.append(min(max(total >> int(network.shifts[0]), 0), HIGHEST))
    frequencies = []
    for table, shift in ((network.clusters, 1), *((places, 2) for places in network.places)):
        weighted = zip([*hidden, 1], table.tolist(), strict=True)
        sums = [
            sum(each) for each in zip(*([h * w for w in row] for h, row in weighted), strict=True)
        ]
        decay = network.decay.tolist()
        frequencies.append(whole_frequencies(sums, decay, int(network.shifts[shift])))
    return frequencies[0], frequencies[1:]


@pytest.mark.parametrize(("codes", "parent"), [(8, 0), (5, 11), (1, 1), (256, 7)])
def test_frequencies_are_those_of_whole_numbers(codes, parent):
    network = random_network(1, codes, parent)
    around = contexts(20, network)
    cluster = np.sort(np.arange(20) % len(network.places))
    for kind in range(len(network.first)):
        hidden = network.hidden(kind, around)
        expected = [whole_numbers(network, kind, row) for row in around.tolist()]
        np.testing.assert_array_equal(network.of_clusters(hidden), [each[0] for each in expected])
        places = [each[1][c] for each, c in zip(expected, cluster, strict=True)]
        np.testing.assert_array_equal(network.of_places(hidden, cluster), places)


@pytest.mark.parametrize("sharpness", [0, 4, 24])
def test_frequencies_and_1_for_each_digit_add_up_to_the_total(sharpness):
    network = random_network(2, 300, 20, sharpness)
    hidden = network.hidden(1, contexts(500, network))
    cluster = np.sort(np.arange(500) % 18)
    for found in (network.of_clusters(hidden), network.of_places(hidden, cluster)):
        assert found.min() >= 0
        np.testing.assert_array_equal(found.sum(axis=1) + found.shape[1], TOTAL)
        assert sharpness or found.max() > 0.9 * TOTAL


def test_frequencies_do_not_depend_on_the_batch():
    network = random_network(3, 40, 9)
    around, cluster = contexts(64, network), np.sort(np.arange(64) % 7)
    hidden = network.hidden(2, around)
    for n in (1, 3, 17):
        parts = [slice(start, start + n) for start in range(0, 64, n)]
        each = [network.hidden(2, around[part]) for part in parts]
        np.testing.assert_array_equal(hidden, np.concatenate(each))
        for whole, some in (
            (network.of_clusters(hidden), map(network.of_clusters, each)),
            (
                network.of_places(hidden, cluster),
                map(network.of_places, each, [cluster[p] for p in parts]),
            ),
        ):
            np.testing.assert_array_equal(whole, np.concatenate(list(some)))


@pytest.mark.parametrize("codes", [1, 2, 3, 4, 5, 16, 17, 240, 1000, 4096])
def test_codes_are_digits_and_digits_codes(codes):
    clusters, places = digits(codes)
    assert clusters * places >= codes
    assert clusters + places <= 2 * np.sqrt(codes) + 4
    network = random_network(0, codes)
    cluster, place = network.split(np.arange(codes))
    assert cluster.max() < clusters
    assert place.max() < places
    np.testing.assert_array_equal(network.joined(cluster, place), np.arange(codes))
    assert len(set(zip(cluster.tolist(), place.tolist(), strict=True))) == codes


def test_place_that_no_code_has_is_refused():
    network = random_network(0, 5)  # 3 clusters of 2 places
    with pytest.raises(InputError, match="codes are damaged"):
        network.joined(np.array([0, 2]), np.array([0, 1]))


def changed(network: Network, name, values) -> Network:
    return replace(network, **{name: np.asarray(values)})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("embeddings", lambda v: v[:, :2], "first is"),
        ("embeddings", lambda v: v[:6], "6 codes, 6 rows"),
        ("embeddings", lambda v: v[:7], "first is"),
        ("embeddings", lambda v: v.astype(np.uint8), "embeddings is uint8"),
        ("ranks", lambda v: v[:3], "clusters is"),
        ("ranks", lambda v: v * 0, "ranks are not"),
        ("first", lambda v: v[:2], "first is"),
        ("first", lambda v: v * 1000, "may not be exact"),
        ("clusters", lambda v: v * 10000, "may not be exact"),
        ("places", lambda v: v * 10000, "may not be exact"),
        ("first_bias", lambda v: v - (1 << 23), "may not be exact"),
        ("clusters", lambda v: v[0], "clusters is"),
        ("places", lambda v: v[:, :-1], "places is"),
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
