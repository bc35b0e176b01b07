"""Files of compressed images: their size, and what damage does to them."""

import itertools
import math
import zlib

import numpy as np
import pytest

from avq.apply.codec.coder import Coder
from avq.apply.codec.image_file import MAGIC, pack, read, unpack
from avq.apply.codec.stored import Codec
from avq.errors import InputError

from .codec_helpers import random_grids, random_network

SIZES = [(1, 1), (8, 8), (9, 300), (16, 16), (129, 64)]


@pytest.fixture(scope="module")
def codec(tokenizer):
    return Codec(tokenizer.digest, [random_network(0, 8)])


def grids(tokenizer, size):
    return random_grids(np.random.default_rng(0), tokenizer.grids(*size), tokenizer.codebook_sizes)


@pytest.mark.parametrize("size", SIZES)
def test_file_holds_codes_and_size_with_few_bytes_more(tokenizer, codec, size):
    codes = grids(tokenizer, size)
    data = pack(codes, size, codec)
    found, found_size = unpack(data, tokenizer, codec, "x.avq")
    assert found_size == size
    np.testing.assert_array_equal(found[0], codes[0])
    predicted = sum(Coder(codec.networks).bits(codes)) / 8
    digests = 8
    assert len(data) - digests <= 1.02 * predicted + 16


@pytest.mark.parametrize("size", SIZES)
def test_file_of_what_cannot_be_predicted_is_no_larger_than_plain_codes(tokenizer, codec, size):
    (shape,) = tokenizer.grids(*size)
    codes = (np.random.default_rng(0).integers(0, 8, shape).astype(np.int32),)
    data = pack(codes, size, codec)
    head = 16 + sum(1 + (value > 127) for value in (2 * size[0], size[1]))
    assert len(data) <= head + math.ceil(3 * codes[0].size / 8)
    found, found_size = unpack(data, tokenizer, codec, "x.avq")
    assert found_size == size
    np.testing.assert_array_equal(found[0], codes[0])


def test_every_change_and_every_cut_of_a_file_is_refused(tokenizer, codec):
    data = pack(grids(tokenizer, (24, 16)), (24, 16), codec)
    flipped = [
        data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
        for place in range(len(data))
        for bits in (1, 0x80, 0xFF)
    ]
    cut = [data[:length] for length in range(len(data))]
    for damaged in (*flipped, *cut, data + b"\0"):
        with pytest.raises(InputError, match=r"'x\.avq' (is|has|was)"):
            unpack(damaged, tokenizer, codec, "x.avq")


def sealed(body):
    return MAGIC["codec"] + zlib.crc32(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (b"\xff\xff\xff\x7f\xff\xff\xff\x7f", "268435455x134217727 pixels"),
        (b"\x00\x05", "5x0 pixels are none"),
        (b"\x0a", "0x5 pixels are none"),
        (b"", "0x0 pixels are none"),
    ],
)
def test_sizes_that_no_image_has_are_refused_before_anything_is_made(
    tokenizer, codec, sizes, message
):
    digests = pack(grids(tokenizer, (8, 8)), (8, 8), codec)[8:16]
    with pytest.raises(InputError, match=message):
        unpack(sealed(digests + sizes), tokenizer, codec, "x.avq")


def test_any_codes_behind_a_right_checksum_are_codes_of_the_model_or_refused(tokenizer, codec):
    rng = np.random.default_rng(0)
    body = pack(grids(tokenizer, (64, 64)), (64, 64), codec)[8:]
    for head, length in itertools.product((body[:11], body[:8] + b"\x81\x01\x40"), range(60)):
        try:
            codes, _ = unpack(sealed(head + rng.bytes(length)), tokenizer, codec, "x.avq")
        except InputError:
            continue
        assert codes[0].min() >= 0
        assert codes[0].max() < 8


def test_file_of_another_model_codec_or_format_says_so(tokenizer, codec):
    data = pack(grids(tokenizer, (8, 8)), (8, 8), codec)
    other = Codec("0" * 16, codec.networks)
    with pytest.raises(InputError, match="was compressed with model 00000000, and this one is"):
        unpack(pack(grids(tokenizer, (8, 8)), (8, 8), other), tokenizer, codec, "x.avq")
    other = Codec(codec.model, [random_network(1, 8)])
    with pytest.raises(InputError, match=f"with codec {other.digest[:4].hex()}, and this one is"):
        unpack(pack(grids(tokenizer, (8, 8)), (8, 8), other), tokenizer, codec, "x.avq")
    with pytest.raises(InputError, match="has a format that this avq does not know"):
        unpack(b"AVQ\x04" + data[4:], tokenizer, codec, "x.avq")
    with pytest.raises(InputError, match="is of an older avq"):
        unpack(b"AVQ\x01" + data[4:], tokenizer, codec, "x.avq")
    with pytest.raises(InputError, match=r"'x\.avq' is no file of avq compress"):
        unpack(b"\x89PNG" + data, tokenizer, codec, "x.avq")


def test_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x.avq").write_bytes(b"AVQ" * 10)
    assert read(tmp_path / "x.avq") == b"AVQ" * 10
    monkeypatch.setattr("avq.apply.codec.image_file.MOST_BYTES", 29)
    with pytest.raises(InputError, match="has over 29 bytes"):
        read(tmp_path / "x.avq")
