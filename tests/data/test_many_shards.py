"""Prepared sets of more shards than are looked at, or open, at once."""

import json
import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avq.data import prepare as module
from avq.data.images import UnreadableImage
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources import open_source, prepared, shards
from avq.data.split import open_splits

IMAGES, SIZE = 9, 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of two images a shard, and what `prepare` said of it."""
    folder, source = (tmp_path_factory.mktemp(name) for name in ("prepared", "source"))
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(source / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "IMAGES_PER_SHARD", 2)
        about = prepare(str(source), folder / "set", size=SIZE, split=0.5, workers=1)
    return folder / "set", about


def test_images_at_random_are_those_in_order_with_two_files_open(made, monkeypatch):
    monkeypatch.setattr(shards, "FILES_KEPT", 2)
    source: Any = open_source(str(made[0]))
    in_order = [source[i] for i in range(IMAGES)]
    rows = np.random.default_rng(1).integers(0, IMAGES, 40)
    for row in rows:
        np.testing.assert_array_equal(source[int(row)], in_order[row])
    assert len(source._open) == 2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[3], in_order[3])


def test_split_of_a_prepared_set_is_ranges(made):
    folder, about = made
    splits: Any = open_splits(Data(path=str(folder), image_size=SIZE))
    trained = about["counts"]["train"]
    assert splits.train.rows == range(trained)
    assert splits.test.rows == range(trained, IMAGES)
    assert splits.rule == "files train* and test*"


def test_set_prepared_by_an_earlier_avq_is_the_same_one(made, tmp_path):
    folder, about = made
    older = tmp_path / "older"
    older.mkdir()
    for path in folder.glob("*.array_record"):
        (older / path.name).hardlink_to(path)
    entries = [
        {"file": f"{split}-{k:05d}-of-{len(counts):05d}.array_record", "images": count}
        for split, counts in about["shards"].items()
        for k, count in enumerate(counts)
    ]
    (older / "dataset.json").write_text(json.dumps(about | {"shards": entries}))
    then, now = open_source(str(older)), open_source(str(folder))
    for row in range(IMAGES):
        assert then.name(row) == now.name(row)
        np.testing.assert_array_equal(then[row], now[row])


def test_shard_that_was_not_looked_at_is_checked_when_it_is_read(made, tmp_path, monkeypatch):
    folder, _ = made
    monkeypatch.setattr(prepared, "LOOKED_AT", 1)  # the first
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    first, second, *_ = sorted(copy.glob("train-*"))
    second.write_bytes(first.read_bytes()[:-7])
    source = open_source(str(copy))
    assert source[0] is not None
    with pytest.raises(UnreadableImage):
        source[2]
