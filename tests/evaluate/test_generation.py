"""What is measured of a prior: likelihoods, distances, and pictures of what it draws."""

import numpy as np
import pytest

from avq.apply.code_shards import read
from avq.apply.prior import load_prior
from avq.evaluate import generation
from avq.evaluate.generation import Split, measure_prior, nearest


@pytest.fixture(scope="module")
def prior(prior_run):
    return load_prior(prior_run)


@pytest.fixture(scope="module")
def splits(prior_run):
    """Codes of the training and the test images."""
    parts = (read(prior_run / "codes", split).arrays()[1] for split in ("train", "test"))
    return [Split(codes, np.zeros(len(codes[0]), int)) for codes in parts]


@pytest.fixture(scope="module")
def generated(prior, splits):
    return measure_prior(prior, *splits)


def test_likelihoods_are_those_of_the_prior(generated, prior, splits):
    values, (train, test) = generated.values, splits
    for name, codes in (("", test.codes[0]), ("train_", train.codes[0][[0, 5, 10, 15]])):
        (bits,) = prior.bits((codes,))
        each = bits.mean((1, 2))
        assert values[f"{name}bits_per_code"] == pytest.approx(each.mean(), rel=1e-5)
        assert values[f"{name}bits_per_code_by_level"] == [pytest.approx(each.mean(), rel=1e-5)]
        assert values[f"{name}bits_per_dim"] == pytest.approx(16 * each.mean() / 768, rel=1e-5)
        low, high = values["interval"][f"{name}bits_per_code"]
        assert each.min() - 1e-6 <= low <= each.mean() <= high <= each.max() + 1e-6
    counts = np.array([np.sum(train.codes[0] == code) for code in range(8)]) + 1
    expected = np.mean([np.log2(counts.sum() / counts[code]) for code in test.codes[0].ravel()])
    assert values["frequency_bits_per_code"] == pytest.approx(expected)


def test_one_level_is_drawn_and_the_others_stay(generated, prior, splits):
    assert generated.samples.shape == (64, 16, 16, 3)
    assert len(np.unique(generated.samples, axis=0)) > 50
    _, test = splits
    np.testing.assert_array_equal(generated.originals, prior.tokenizer.decode(test.codes))
    (drawn,) = generated.by_level  # the only level, so nothing stays
    np.testing.assert_array_equal(drawn, generated.samples[:4])


def test_nearest_images_are_the_training_set_s(generated, prior, splits):
    train, test = splits
    known = prior.tokenizer.decode(train.codes).astype(float)
    held_out = prior.tokenizer.decode(test.codes).astype(float)

    def distances(images):
        square = (images[:, None].astype(float) - known[None]) ** 2
        return np.sqrt(square.mean((2, 3, 4)))  # the images have 16x16 pixels

    to_samples = distances(generated.samples)
    np.testing.assert_allclose(generated.distances, np.sort(to_samples)[:8, :2], rtol=1e-4)
    for images, expected in zip(generated.nearest, np.argsort(to_samples)[:8], strict=True):
        np.testing.assert_array_equal(images, known[expected[:2]])
    medians = [np.median(each.min(1)) for each in (to_samples, distances(held_out))]
    assert generated.values["nearest_ratio"] == pytest.approx(medians[0] / medians[1], rel=1e-4)


def test_copies_of_training_images_have_no_distance():
    rng = np.random.default_rng(0)
    known = rng.integers(0, 256, (9, 12)).astype(np.float32)
    rows, distances = nearest(known[[4, 2]], known, 2)
    np.testing.assert_array_equal(rows[:, 0], [4, 2])
    np.testing.assert_array_equal(distances[:, 0], [0, 0])


def test_large_splits_are_compared_in_part(prior, splits, monkeypatch):
    monkeypatch.setattr(generation, "COMPARED", 3)
    assert measure_prior(prior, *splits).values["train_compared"] == 3
