"""Sorted names, in memory or on disk."""

import gc
import pickle
import tempfile

import numpy as np
import pytest

from avq.data.sources import open_source, sorted_names
from avq.errors import InputError

NAMES = [f"{'abc'[i % 3]}/{i * 7919 % 1000:03d}.png" for i in range(300)]
# Not valid UTF-8, a line break, and signs whose order is another in UTF-16.
ODD = ["\udcff.png", "a\nb.png", "\uff5e.png", "\U0001f600.png", "\u00e9.png", "", "\ud7ff.png"]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Folder for temporary files."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.mark.parametrize("chunk", [1, 10, 307, 308, 1000])
def test_names_are_sorted_as_text_whatever_is_held_at_a_time(monkeypatch, chunk):
    monkeypatch.setattr(sorted_names, "CHUNK", chunk)
    monkeypatch.setattr(sorted_names, "READ", 16)
    names = sorted_names.sorted_names(iter(NAMES + ODD))
    expected = sorted(NAMES + ODD)
    assert len(names) == 307
    assert list(names) == expected
    order = np.random.default_rng(0).permutation(307).tolist()
    assert [names[place] for place in order] == [expected[place] for place in order]
    assert names[-1] == expected[-1]
    assert names[60:140:3] == expected[60:140:3]
    with pytest.raises(IndexError):
        names[307]


def test_copies_in_other_processes_share_a_file_that_goes_with_the_first(monkeypatch, temporary):
    monkeypatch.setattr(sorted_names, "CHUNK", 10)
    names = sorted_names.sorted_names(NAMES)
    sent = pickle.dumps(names)
    assert len(sent) < 1000
    copy = pickle.loads(sent)
    assert list(copy) == sorted(NAMES)
    assert len(list(temporary.iterdir())) == 1
    del names
    gc.collect()
    assert list(temporary.iterdir()) == []
    assert copy[299] == max(NAMES)


def test_folder_of_many_images_is_the_same_source(image_folder, monkeypatch):
    few = open_source(str(image_folder))
    monkeypatch.setattr(sorted_names, "CHUNK", 4)
    many = open_source(str(image_folder))
    assert [many.name(i) for i in range(len(many))] == [few.name(i) for i in range(len(few))]
    np.testing.assert_array_equal(many[7], few[7])


def test_full_disk_is_one_line(monkeypatch):
    monkeypatch.setattr(sorted_names, "CHUNK", 10)

    def full(**options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(InputError, match=r"\(No space left on device\)\. Set TMPDIR"):
        sorted_names.sorted_names(NAMES)
