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
        "own": rng.normal(size=(21, 16)),
        "parent": rng.normal(size=(31, 16)),
        "first": rng.normal(size=(4, 13 * 16, 32)) / 13,
        "first_bias": rng.normal(size=(4, 32)),
        "second": rng.normal(size=(32, 20)) / 6,
        "second_bias": rng.normal(size=(4, 20)),
    }
    around = np.hstack([rng.integers(0, 21, (200, 4)), rng.integers(0, 31, (200, 9))])
    network = fitting.rounded({name: jnp.asarray(values) for name, values in params.items()})
    for kind in range(4):
        ours = np.log((network.frequencies(kind, around) + 1) / (1 << 24))
        inputs = np.hstack(
            [
                params["own"][around[:, :4]].reshape(200, -1),
                params["parent"][around[:, 4:]].reshape(200, -1),
            ]
        )
        hidden = np.clip(inputs @ params["first"][kind] + params["first_bias"][kind], 0, 6)
        logits = hidden @ params["second"] + params["second_bias"][kind]
        exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        lost = np.sum(np.exp(exact) * (exact - ours), axis=1)
        assert lost.max() < 0.01  # nats


def test_codebook_that_is_too_large_is_refused():
    with pytest.raises(InputError, match=r"4,097 codes are over 4,096"):
        fitting.fit([np.zeros((1, 1, 1), np.int32)], [np.zeros((4097, 2), np.float32)])
