"""Codes coded by the probabilities of a prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.apply.codec.exact_transformer import ExactTransformer
from avq.apply.codec.image_file import pack, unpack
from avq.apply.codec.prior_codec import PriorCodec, PriorCoder
from avq.apply.codec.stored import Codec
from avq.apply.prior import Prior, load_prior
from avq.errors import InputError
from avq.models.build import make_prior
from avq.models.prior.places import spans

from .codec_helpers import random_grids, random_network

GRIDS, SIZES = ((6, 4), (3, 2)), (9, 5)
SHAPE = {"width": 16, "depth": 2, "heads": 2, "dropout": 0.0, "code_dim": 8}


def module_and_variables(classes=0):
    """A prior whose parameters are far from their start, so that everything has an influence."""
    module = make_prior({"kind": "transformer", **SHAPE}, GRIDS, SIZES, classes)
    zeros, label = tuple(jnp.zeros((1, *grid), int) for grid in GRIDS), jnp.zeros(1, int)
    init = jax.jit(lambda: module.init(jax.random.key(0), zeros, label, method="nats"))
    rng = np.random.default_rng(0)
    return module, jax.tree.map(
        lambda leaf: np.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), np.float32), init()
    )


@pytest.fixture(scope="module")
def network():
    """A prior with labels, its variables, and the same in exact arithmetic."""
    module, variables = module_and_variables(classes=2)
    return module, variables, ExactTransformer(module, variables["params"])


def some_codes(seed):
    return random_grids(np.random.default_rng(seed), GRIDS, SIZES)


def in_order(codes):
    return np.concatenate([grid.ravel() for grid in reversed(codes)])


def in_parts(transformer, sequence, length):
    """Logits of all places, so many at a time; what is not known yet is random."""
    cache, rng, parts = transformer.empty_cache(), np.random.default_rng(7), []
    for level, first, end in spans(GRIDS):
        for start in range(first, end, length):
            stop = min(start + length, end)
            known = sequence.copy()
            known[stop:] = rng.integers(0, 5, len(known) - stop)
            parts.extend(transformer.logits(known, cache, level, start, stop))
    return parts


def test_logits_are_those_of_the_prior_without_a_label(network):
    module, variables, transformer = network
    codes = some_codes(1)
    sequence = in_order(codes)
    batch = tuple(jnp.asarray(grid[None]) for grid in codes)
    expected = jax.jit(lambda: module.apply(variables, batch, jnp.array([2])))()
    flat = [row for level in (1, 0) for row in expected[level].reshape(-1, SIZES[level])]
    for found, logits in zip(in_parts(transformer, sequence, 64), flat, strict=True):
        np.testing.assert_allclose(found, logits, atol=0.02)


def test_logits_of_a_place_have_the_same_bits_however_many_are_computed_at_a_time(network):
    sequence = in_order(some_codes(2))
    whole = in_parts(network[2], sequence, 64)
    for length in (1, 5):
        for one, other in zip(whole, in_parts(network[2], sequence, length), strict=True):
            np.testing.assert_array_equal(one, other)


def test_codes_come_back_in_as_many_bytes_as_the_prior_predicts(network):
    module, variables, transformer = network
    coder, lengths, bits = PriorCoder(transformer), [], []
    for seed in range(20):
        codes = some_codes(seed)
        data = coder.encode(codes)
        for found, expected in zip(coder.decode(data, GRIDS), codes, strict=True):
            np.testing.assert_array_equal(found, expected)
        lengths.append(len(data))
    batch = tuple(jnp.stack(level) for level in zip(*map(some_codes, range(20)), strict=True))
    nats = jax.jit(lambda: module.apply(variables, batch, jnp.full(20, 2), method="nats"))()
    bits = sum(level.sum() for level in nats) / np.log(2)
    assert float(bits) / 8 - 20 <= sum(lengths) <= 1.01 * float(bits) / 8 + 20 * 5


def test_bytes_that_are_damaged_become_codes_of_the_model_or_are_refused(network):
    coder, rng = PriorCoder(network[2]), np.random.default_rng(0)
    for length in range(0, 40, 3):
        try:
            codes = coder.decode(rng.bytes(length), GRIDS)
        except InputError:
            continue
        for grid, size in zip(codes, SIZES, strict=True):
            assert 0 <= grid.min() <= grid.max() < size
    with pytest.raises(InputError, match="another size"):
        coder.decode(b"", ((4, 6), (3, 2)))


@pytest.fixture(scope="module")
def codec(prior_run):
    return PriorCodec(load_prior(prior_run))


def file_of(codec):
    tokenizer = codec.prior.tokenizer
    rng, side = np.random.default_rng(0), tokenizer.image_size
    codes = random_grids(rng, tokenizer.grids(side, side), tokenizer.codebook_sizes)
    return codes, pack(codes, (side, side), codec)


def test_file_is_read_with_its_prior_and_no_other(codec, tokenizer):
    codes, data = file_of(codec)
    found, size = unpack(data, tokenizer, codec, "x.avq")
    assert size == (tokenizer.image_size,) * 2
    np.testing.assert_array_equal(found[0], codes[0])
    prior = codec.prior
    moved = jax.tree.map(lambda leaf: leaf * 1.001, prior.variables)
    other = PriorCodec(Prior(prior.module, moved, tokenizer, (), 1))
    with pytest.raises(InputError, match=f"with prior {codec.digest[:4].hex()}, and this one is"):
        unpack(data, tokenizer, other, "x.avq")
    without = Codec(tokenizer.digest, [random_network(0, 8)])
    with pytest.raises(InputError, match="was compressed with --prior"):
        unpack(data, tokenizer, without, "x.avq")
    with pytest.raises(InputError, match="was compressed without --prior"):
        unpack(pack(codes, size, without), tokenizer, codec, "x.avq")


def test_every_changed_byte_of_a_file_is_refused(codec, tokenizer):
    _, data = file_of(codec)
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(InputError, match=r"'x\.avq' (is|has|was)"):
            unpack(damaged, tokenizer, codec, "x.avq")


def test_other_priors_and_weights_that_cannot_be_exact_are_refused(codec):
    prior = codec.prior
    kind = make_prior({"kind": "pixelcnn", **SHAPE, "kernel": 3}, prior.module.grids, (8,), 0)
    with pytest.raises(InputError, match=r"Give a prior of --config\.model\.kind=transformer"):
        PriorCodec(Prior(kind, prior.variables, prior.tokenizer, (), 1)).coder.encode([])
    module, variables = module_and_variables()
    huge = jax.tree.map(lambda leaf: leaf * 1e9, variables["params"])
    with pytest.raises(InputError, match="too large for the codec"):
        ExactTransformer(module, huge)
