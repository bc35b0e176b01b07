"""Networks fitted to codes, against what is known of how the codes were drawn."""

import jax.numpy as jnp
import numpy as np
import pytest

from avq.apply.codec import fitting
from avq.apply.codec.coder import Coder
from avq.errors import InputError


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"HIDDEN": 16, "BATCH": 256, "STEPS": 500, "DIM": 4}.items():
        monkeypatch.setattr(fitting, name, value)


def patterned(rng, n):
    """Codes that are those above, or the four around a middle, half of the time."""
    coarse = rng.integers(0, 6, (n, 4, 4))
    fine = np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2)
    noise = rng.random(fine.shape) < 0.5
    return np.where(noise, rng.integers(0, 6, fine.shape), fine), coarse


def bits(networks, codes):
    images = range(len(codes[0]))
    total = np.sum([Coder(networks).bits([g[i] for g in codes]) for i in images], axis=0)
    return total / [grids.size for grids in codes]


def test_codes_take_nearly_the_bits_that_their_rule_leaves():
    rng = np.random.default_rng(0)
    done: list[int] = []
    vectors = [rng.normal(size=(6, 3)).astype(np.float32) for _ in range(2)]
    networks = fitting.fit(patterned(rng, 300), vectors, done.append, done.append)
    assert sum(done[1:]) == done[0] > 200
    fine, coarse = bits(networks, patterned(rng, 40))
    same, other = 0.5 + 0.5 / 6, 0.5 / 6
    least = -same * np.log2(same) - 5 * other * np.log2(other)
    assert least - 0.1 < fine < least + 0.2  # of log2(6) = 2.58
    assert coarse < np.log2(6) + 0.1


def test_few_images_give_no_worse_than_the_frequencies_of_codes():
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(8, 3)).astype(np.float32)]
    skewed = np.array([0.6, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01])
    networks = fitting.fit([rng.choice(8, (16, 4, 4), p=skewed)], vectors)
    (found,) = bits(networks, [rng.choice(8, (200, 4, 4), p=skewed)])
    assert found < -np.sum(skewed * np.log2(skewed)) + 0.4  # of 3


@pytest.mark.parametrize("n", [1, 2])
def test_one_image_or_one_code_is_enough_to_fit(n):
    for count in (1, 3):
        networks = fitting.fit([np.zeros((n, 2, 2), np.int32)], [np.ones((count, 2), np.float32)])
        assert bits(networks, [np.zeros((1, 2, 2), np.int32)]) < np.log2(max(count, 2))


def test_rounding_to_integers_costs_little():
    rng = np.random.default_rng(0)
    params = {
        "embeddings": rng.normal(size=(52, 16)),
        "first": rng.normal(size=(4, 13 * 16, 32)) / 13,
        "first_bias": rng.normal(size=(4, 32)),
        "clusters": rng.normal(size=(33, 5)) / 6,
        "places": rng.normal(size=(5, 33, 4)) / 6,
    }
    around, cluster = rng.integers(0, 52, (200, 13)), np.sort(rng.integers(0, 5, 200))
    floats = {name: jnp.asarray(values) for name, values in params.items()}
    network = fitting.rounded(floats, np.arange(20))
    for kind in range(4):
        inputs = params["embeddings"][around].reshape(200, -1)
        hidden = np.clip(inputs @ params["first"][kind] + params["first_bias"][kind], 0, 6)
        hidden = np.insert(hidden, 32, 1, axis=1)
        ours = network.hidden(kind, around)
        for frequencies, logits in (
            (network.of_clusters(ours), hidden @ params["clusters"]),
            (
                network.of_places(ours, cluster),
                np.einsum("nh,nhm->nm", hidden, params["places"][cluster]),
            ),
        ):
            found = np.log((frequencies + 1) / (1 << 24))
            exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            lost = np.sum(np.exp(exact) * (exact - found), axis=1)
            assert lost.max() < 0.01  # nats


def test_clusters_of_codes_on_a_line_are_its_pieces():
    places = np.random.default_rng(0).permutation(250)
    ranks = fitting.clustered(np.outer(places, [3.0, -1.0, 2.0]))
    assert sorted(ranks) == list(range(250))
    for cluster in range(16):  # of 16 codes, the last of 10
        piece = sorted(places[ranks // 16 == cluster])
        assert piece == list(range(piece[0], piece[0] + len(piece)))


def test_codebook_that_is_too_large_is_refused():
    with pytest.raises(InputError, match=r"4,097 codes are over 4,096"):
        fitting.fit([np.zeros((1, 1, 1), np.int32)], [np.zeros((4097, 2), np.float32)])
