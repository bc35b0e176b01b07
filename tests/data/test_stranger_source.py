"""A source that avq does not know, registered from outside."""

import numpy as np
import pytest

from avq.data.dataset import open_dataset
from avq.data.pipeline import train_batches
from avq.data.settings import Data
from avq.data.sources import SOURCES, open_source
from avq.errors import InputError


class Greys:
    """Forty uniform images: image i is of grey i."""

    augment = False

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return np.full((9, 12, 3), index, np.uint8)

    def name(self, index):
        return f"grey {index}"


def open_greys(data):
    return Greys() if data.path == "greys" else None


def open_greys_with_a_split(data):
    return {"train": Greys(), "test": Greys()} if data.path == "greys" else None


DATA = Data(path="greys", image_size=4, batch_size=8, split_seed=0)


@pytest.mark.parametrize(
    ("opener", "counts"),
    [
        (open_greys, {"train": 32, "test": 8}),
        (open_greys_with_a_split, {"train": 40, "test": 40}),
    ],
)
def test_registered_source_is_chosen_by_its_path_and_gives_batches(opener, counts, monkeypatch):
    monkeypatch.setitem(SOURCES, "greys", opener)
    dataset = open_dataset(DATA)
    assert dataset.summary.counts == counts
    batches = train_batches(dataset.train, DATA, seed=0)
    epoch = np.concatenate([batches[step]["image"] for step in range(counts["train"] // 8)])
    assert epoch.shape == (counts["train"], 4, 4, 3)
    names = [dataset.train.source.name(i) for i in range(counts["train"])]
    assert sorted(f"grey {grey}" for grey in epoch[:, 0, 0, 0]) == sorted(names)


def test_registered_source_leaves_other_paths_to_others(monkeypatch, image_folder):
    monkeypatch.setitem(SOURCES, "greys", open_greys)
    assert len(open_source("greys")) == 40
    assert len(open_source(str(image_folder))) == 20


def test_source_with_a_split_of_its_own_is_not_opened_as_one_set(monkeypatch):
    monkeypatch.setitem(SOURCES, "greys", open_greys_with_a_split)
    with pytest.raises(InputError, match="'greys' comes as train and test images"):
        open_source("greys")


def test_path_is_unknown_without_the_registration():
    with pytest.raises(InputError, match=r"data\.path: no such file or folder: 'greys'"):
        open_dataset(DATA)
