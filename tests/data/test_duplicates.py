"""Perceptual hashes and the search for close ones."""

import itertools

import numpy as np
import pytest
import skimage.data
from PIL import Image

from avq.data import duplicates
from avq.data.duplicates import near_duplicates, perceptual_hash


def distance(a, b):
    return (a ^ b).bit_count()


@pytest.fixture(scope="module")
def photographs():
    return [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket()]


def test_hash_hardly_changes_under_resizing_compression_and_brightness(photographs, tmp_path):
    for i, image in enumerate(photographs):
        original = perceptual_hash(image)
        small = np.asarray(Image.fromarray(image).resize((150, 130)))
        Image.fromarray(image).save(tmp_path / f"{i}.jpg", quality=70)
        compressed = np.asarray(Image.open(tmp_path / f"{i}.jpg"))
        darker = (image * 0.9).astype(np.uint8)
        for changed in (small, compressed, darker):
            assert distance(original, perceptual_hash(changed)) <= 6


def test_hashes_of_different_images_are_far_apart(photographs):
    hashes = [perceptual_hash(image) for image in photographs]
    hashes.append(perceptual_hash(photographs[0][:, ::-1]))
    assert min(distance(a, b) for a, b in itertools.combinations(hashes, 2)) > 10


def test_half_of_the_bits_are_set(photographs):
    assert all(perceptual_hash(image).bit_count() == 32 for image in photographs)


@pytest.fixture
def search(tmp_path):
    """Search between two arrays of hashes, by way of files."""

    def call(left, right, **options):
        for name, hashes in (("a", left), ("b", right)):
            hashes.astype("<u8").tofile(tmp_path / name)
        return near_duplicates(tmp_path / "a", tmp_path / "b", tmp_path, **options)

    return call


def planted(bits, n=60, m=83):
    """Random hashes with close ones, their differing bits anywhere, and a few copies of one."""
    rng = np.random.default_rng(bits)
    left, right = (rng.integers(0, 1 << bits, count, dtype=np.uint64) for count in (n, m))
    for i in range(0, n, 3):
        flipped = rng.choice(64, size=i % 5, replace=False)
        right[i] = left[i] ^ np.uint64(sum(1 << int(bit) for bit in flipped))
    left[40:46], right[61:70] = left[30], left[30]
    return left, right


def all_pairs(left, right):
    pairs = itertools.product(enumerate(left.tolist()), enumerate(right.tolist()))
    return [(i, j) for (i, a), (j, b) in pairs if distance(a, b) <= 3]


@pytest.mark.parametrize("bits", [4, 16, 63], ids=["nearly all close", "many", "few"])
@pytest.mark.parametrize("chunk", [16, 50, 1 << 20])
def test_pairs_are_those_of_a_comparison_of_all_with_all(search, bits, chunk, monkeypatch):
    monkeypatch.setattr(duplicates, "CANDIDATES", 7)
    monkeypatch.setattr(duplicates, "SCANNED", 3)
    left, right = planted(bits)
    expected = all_pairs(left, right)
    assert len(expected) >= 60
    for most in (20, 5000):
        found = search(left, right, most=most, chunk=chunk)
        assert found.pairs == len(expected)
        assert found.first == expected[:most]


def test_every_way_to_differ_in_few_bits_is_found_once(search):
    ways = [way for k in range(5) for way in itertools.combinations(range(0, 64, 5), k)]
    other = np.uint64(0x0123456789ABCDEF)
    left = np.array([sum(1 << bit for bit in way) for way in ways], np.uint64) ^ other
    found = search(left, np.array([other]), most=len(ways), chunk=100)
    assert found.first == [(i, 0) for i, way in enumerate(ways) if len(way) <= 3]
    assert found.pairs == len(found.first)


def test_copies_of_one_picture_are_counted_and_not_listed(search):
    left, right = np.full(30_000, 7, np.uint64), np.full(20_000, 6, np.uint64)
    found = search(left, right, most=3, chunk=8192)
    assert found.pairs == 600_000_000
    assert found.first == [(0, 0), (0, 1), (0, 2)]


def test_empty_sides_have_no_pairs(search):
    none, some = np.array([], np.uint64), np.array([1, 2], np.uint64)
    for sides in ((none, some), (some, none), (none, none)):
        assert search(*sides, most=5) == duplicates.NearDuplicates(0, [])
