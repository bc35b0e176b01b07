"""Codes that a prior is trained on, in memory, and their labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import grain
import jax
import numpy as np
from jaxtyping import Bool, Int, Int32, Integer

from avq.apply.code_shards import CODES, CodeSet, read
from avq.apply.tokenize import tokenize
from avq.apply.tokenizer import Tokenizer
from avq.data.dataset import evenly
from avq.data.pipeline import in_batches, prefetch
from avq.data.sources.prepared import SPLITS, is_unfinished
from avq.data.split import KINDS
from avq.errors import InputError
from avq.hosts import is_main_process
from avq.settings import setting
from avq.storage.objects import AnyPath, at
from avq.tasks.image_data import closing
from avq.train.task import Batch, Batches


@dataclass(frozen=True)
class CodeSettings:
    """Which codes a prior is trained on."""

    path: str = setting(
        "",
        "folder of `avq tokenize`, or images, which are then encoded once into the run's folder; "
        "'': the images of the tokenizer's run",
        free=True,
    )
    batch_size: int = setting(64, "images in a batch, over all devices", low=1, high=2**20)
    labels: bool = setting(
        True, "whether the folders of images, below those of the split, are their labels"
    )
    unlabelled: float = setting(
        0.1, "share of training images whose label is hidden, for guidance", low=0, high=1
    )


@dataclass(frozen=True)
class LabelledCodes:
    """Codes of a split.

    Attributes:
        codes: an array `[n, h, w]` a level, finest first, of the smallest unsigned integers.
        labels: numbers of the classes; that of no class is the number of classes.
    """

    codes: tuple[Integer[np.ndarray, "n _h _w"], ...]
    labels: Int32[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Int[np.ndarray, "b"]) -> Batch:
        """Some rows, as a training batch."""
        return {"codes": tuple(level[rows] for level in self.codes), "label": self.labels[rows]}

    def evenly(self, count: int) -> "LabelledCodes":
        """So many rows, evenly spaced; all where there are fewer."""
        chosen = self.batch(np.array(evenly(len(self), count)))
        return LabelledCodes(chosen["codes"], chosen["label"])

    def in_order(self, batch_size: int) -> Iterator[tuple[Batch, Bool[np.ndarray, "b"]]]:
        """This process's part of batches of all rows, and a mask of it; the last batch is filled by
        repetition.
        """
        count = batch_size // jax.process_count()
        first = count * jax.process_index()
        for start in range(0, len(self), batch_size):
            rows = np.arange(start + first, start + first + count)
            yield self.batch(rows % len(self)), rows < len(self)


class CodeData:
    """Codes of a run, see `avq.train.task.TaskData`.

    Attributes:
        train, test: the codes.
        classes: names of the labels.
        summary: content of `dataset.json`.
    """

    def __init__(self, folder: AnyPath, tokenizer: Tokenizer, settings: CodeSettings, seed: int):
        sets = {split: _read(folder, split, tokenizer) for split in SPLITS}
        read_all = {split: codes.arrays() for split, codes in sets.items()}
        names = {split: names for split, (names, _) in read_all.items()}
        self.classes = classes_of(names["train"]) if settings.labels else []
        self.train, self.test = (
            LabelledCodes(grids, _labels(names, self.classes)) for names, grids in read_all.values()
        )
        if not len(self.test) or len(self.train) < settings.batch_size:
            raise InputError(
                f"data.path: codes of {len(self.train)} training and {len(self.test)} test images "
                f"are too few for data.batch_size={settings.batch_size}. Give more images."
            )
        self._batch_size, self._seed = settings.batch_size, seed
        about = sets["train"].about
        self.summary: Mapping[str, Any] = {
            "tokenizer": tokenizer.digest,
            "counts": {"train": len(self.train), "test": len(self.test)},
            "classes": self.classes,
            "source": about["source"],
            "split_rule": about["split_rule"],
        }

    def batches(self, start: int) -> Batches:
        """This process's part of every batch from step `start` on."""
        rows = grain.MapDataset.range(len(self.train)).seed(self._seed).shuffle().repeat()
        host, hosts = jax.process_index(), jax.process_count()
        batches = in_batches(rows, self._batch_size, host, hosts).map(self.train.batch)
        return closing(prefetch(batches, start))


def open_codes(path: str, tokenizer: Tokenizer, run: Path) -> AnyPath:
    """Folder of codes: the one given, or one in the run's folder that images are encoded into.

    Args:
        path: of codes or images; '' for the images of the tokenizer's run.
        tokenizer: of the codes.
        run: folder of the prior's run.

    Raises:
        InputError: for a path that cannot be used, and for images in a run of several processes.
    """
    folder = at(path)
    if path and ((folder / CODES).is_file() or is_unfinished(folder)):
        return folder
    if jax.process_count() > 1:
        raise InputError(
            "data.path: one of several processes cannot encode images. Run avq tokenize first, and "
            "give its folder."
        )
    target = run / "codes"

    def on_total(total: int) -> None:
        if is_main_process():
            print(f"{target}: encoding {total:,} images, once", flush=True)

    images = path or tokenizer.trained.data.path
    run.mkdir(parents=True, exist_ok=True)
    tokenize(tokenizer, images, target, on_total=on_total)
    return target


def _read(folder: AnyPath, split: str, tokenizer: Tokenizer) -> CodeSet:
    """Codes of a split, if they are the tokenizer's."""
    codes = read(folder, split)
    size = codes.about["image_size"]
    expected = {
        "codebook_sizes": list(tokenizer.codebook_sizes),
        "grids": [list(grid) for grid in tokenizer.grids(size, size)],
        "model": tokenizer.digest,
    }
    for name, ours in expected.items():
        if codes.about[name] != ours:
            raise InputError(
                f"data.path: {str(folder)!r} holds codes of {name} {codes.about[name]}, and the "
                f"tokenizer has {ours}. Give the tokenizer that they were encoded with."
            )
    return codes


def classes_of(names: Sequence[str]) -> list[str]:
    """Classes of images, in alphabetical order: the folders that hold them, where there are several
    and every image lies in one; folders of a split, such as 'train', are none.

    Example:
        >>> classes_of(["train/cat/1.png", "train/dog/1.png"]), classes_of(["train/1.png", "2.png"])
        (['cat', 'dog'], [])
    """
    classes = sorted({class_of(name) for name in names})
    return classes if len(classes) > 1 and "" not in classes else []


def class_of(name: str) -> str:
    """Folder that holds an image, by its name; '' for one of a split, and where there is none."""
    folder = PurePosixPath(name).parent.name
    return "" if folder.lower() in KINDS else folder


def _labels(names: Sequence[str], classes: Sequence[str]) -> Int32[np.ndarray, "n"]:
    numbers = {name: number for number, name in enumerate(classes)}
    none = len(classes)
    return np.array([numbers.get(class_of(name), none) for name in names], np.int32)
