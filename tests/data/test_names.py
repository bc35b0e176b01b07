"""Hashes of names: what they are of, and as text."""

import hashlib

import numpy as np
import pytest

from avq.data.names import from_text, hash_names, to_text
from avq.data.sources import open_source
from avq.data.sources.base import Subset, name_hashes


def test_hash_is_that_of_the_names_bytes_and_the_key():
    names = ["a/b.png", "\u6f22 \u00e9", ""]
    for key in ("", "1967"):
        digests = [
            hashlib.blake2b(name.encode(), digest_size=8, key=key.encode()).digest()
            for name in names
        ]
        assert hash_names(names, key).tolist() == [int.from_bytes(d, "little") for d in digests]


def test_names_that_are_no_text_are_hashed_too():
    broken = b"\xff\xfe.png".decode("utf-8", "surrogateescape")
    assert len(set(hash_names([broken, "\ud800", "b"]).tolist())) == 3


def test_text_takes_few_bytes_and_is_read_again():
    hashes = hash_names(map(str, range(999)))
    np.testing.assert_array_equal(from_text(to_text(hashes)), hashes)
    assert len(to_text(hashes)) == 999 * 8 * 4 // 3
    assert from_text(to_text(hashes[:0])).shape == (0,)


@pytest.mark.parametrize("text", ["no base 64", "QUJD"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's and base64's own words
        from_text(text)


def test_hashes_of_a_part_of_a_source_are_of_its_names(image_folder):
    source = open_source(str(image_folder))
    part = Subset(source, np.array([3, 17]))
    np.testing.assert_array_equal(name_hashes(part), hash_names(["test/19.png", "train/13.png"]))
