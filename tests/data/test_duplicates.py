"""Perceptual hashes and the search for close ones."""

import itertools

import numpy as np
import pytest
import skimage.data
from PIL import Image

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


@pytest.mark.parametrize("bits", [16, 64], ids=["many close ones", "few"])
def test_pairs_are_those_of_a_comparison_of_all_with_all(bits):
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 1 << bits, n, dtype=np.uint64) for n in (60, 80))
    for i in range(0, 60, 3):  # close ones, their differing bits anywhere
        flipped = rng.choice(64, size=i % 5, replace=False)
        right[i] = left[i] ^ np.uint64(sum(1 << int(bit) for bit in flipped))
    expected = [
        (i, j)
        for i, j in itertools.product(range(60), range(80))
        if distance(int(left[i]), int(right[j])) <= 3
    ]
    assert near_duplicates(left, right) == expected
    assert len(expected) >= 16


def test_empty_sides_have_no_pairs():
    none, some = np.array([], np.uint64), np.array([1, 2], np.uint64)
    assert near_duplicates(none, some) == near_duplicates(some, none) == []
