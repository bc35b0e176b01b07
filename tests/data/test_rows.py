"""Rows that are kept as bits."""

import pickle

import numpy as np
import pytest

from avq.data.rows import ChosenRows


@pytest.mark.parametrize("count", [0, 1, 7, 1024, 1025, 5003])
@pytest.mark.parametrize("share", [0, 0.001, 0.8, 1])
def test_rows_are_those_of_numpy_in_any_slice(count, share):
    chosen = np.random.default_rng(count).random(count) < share
    expected, rows = np.flatnonzero(chosen), ChosenRows(np.packbits(chosen))
    assert len(rows) == len(expected)
    assert list(rows) == expected.tolist()
    np.testing.assert_array_equal(np.asarray(rows), expected)
    for part in (slice(3, 1030), slice(-5, None), slice(1024, 2048), slice(9, 2), slice(None)):
        np.testing.assert_array_equal(np.asarray(rows[part]), expected[part])
        np.testing.assert_array_equal(np.asarray(rows[part][1:4]), expected[part][1:4])
    for place in {0, len(expected) // 2, len(expected) - 1} if len(expected) else ():
        assert rows[place] == expected[place]


def test_rows_behind_the_last_are_none():
    rows = ChosenRows(np.packbits(np.ones(9, bool)))
    assert rows[-1] == 8
    with pytest.raises(IndexError):
        rows[9]


def test_a_million_rows_are_sent_to_another_process_in_a_bit_each():
    chosen = np.arange(1_000_000) % 3 == 0
    sent = pickle.dumps(ChosenRows(np.packbits(chosen)))
    assert len(sent) < 140_000
    assert pickle.loads(sent)[100_000] == 300_000
