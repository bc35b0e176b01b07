"""The codec's file in a run's folder."""

from typing import Any

import numpy as np
import pytest

from avq.apply.codec.stored import Codec, codec_file, read_codec, write_codec
from avq.errors import InputError

from .codec_helpers import random_network


@pytest.fixture(scope="module")
def codec(tokenizer):
    return Codec(tokenizer.digest, [random_network(0, 8)])


def test_codec_comes_back_as_it_was_written(tmp_path, tokenizer, codec):
    assert read_codec(tmp_path, tokenizer) is None
    write_codec(tmp_path, codec)
    again: Any = read_codec(tmp_path, tokenizer)
    assert again.digest == codec.digest
    for name, values in codec.networks[0].arrays().items():
        np.testing.assert_array_equal(again.networks[0].arrays()[name], values)


def test_digest_changes_with_any_integer(codec):
    arrays = codec.networks[0].arrays()
    changed = {**arrays, "first_bias": arrays["first_bias"] + np.eye(7, 8, dtype=np.int64)}
    other = Codec(codec.model, [type(codec.networks[0])(**changed)])
    assert other.digest != codec.digest


def test_codec_of_another_model_is_refused(tmp_path, tokenizer, codec):
    write_codec(tmp_path, Codec("0" * 16, codec.networks))
    with pytest.raises(InputError, match="belongs to model 0000000000000000, and this one is"):
        read_codec(tmp_path, tokenizer)


def test_codec_of_an_older_format_is_refused(tmp_path, tokenizer, codec):
    np.savez(codec_file(tmp_path), model=np.str_(codec.model))
    with pytest.raises(InputError, match="has format 1, and this avq reads 2"):
        read_codec(tmp_path, tokenizer)


def test_codec_of_other_codebooks_is_refused(tmp_path, tokenizer, codec):
    write_codec(tmp_path, Codec(codec.model, [random_network(0, 9)]))
    with pytest.raises(InputError, match="of other codebooks"):
        read_codec(tmp_path, tokenizer)


def test_damaged_files_are_refused(tmp_path, tokenizer, codec, monkeypatch):
    write_codec(tmp_path, codec)
    content = codec_file(tmp_path).read_bytes()
    for length in range(0, len(content), 97):
        codec_file(tmp_path).write_bytes(content[:length])
        with pytest.raises(InputError, match="is damaged"):
            read_codec(tmp_path, tokenizer)
    codec_file(tmp_path).write_bytes(content)
    monkeypatch.setattr("avq.apply.codec.stored.MOST_BYTES", 1000)
    with pytest.raises(InputError, match="bytes unpacked, over 1,000"):
        read_codec(tmp_path, tokenizer)
