"""`avq prepare`: cuts any set of images into squares, in ArrayRecord shards."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avq.data.channels import MODES
from avq.data.dataset import require_few
from avq.data.duplicates import near_duplicates
from avq.data.names import to_text
from avq.data.records import Rejected, Result, record_reader
from avq.data.shard_folder import JSON, Shard, ShardFolder, fingerprint, shards_of
from avq.data.sources import Source, open_source
from avq.data.sources.base import name_hashes
from avq.data.sources.prepared import DESCRIPTION
from avq.data.split import other_files, split_rows
from avq.errors import InputError

IMAGES_PER_SHARD = 1024
BYTES_PER_SHARD = 1 << 28
MAX_LISTED = 1000


def prepare(
    path: str,
    target: Path,
    *,
    size: int,
    split: float = 0.8,
    seed: int = 1967,
    random_split: bool = False,
    white_level: int = 0,
    channels: int = 3,
    workers: int = 1,
    max_rejected: float = 0.01,
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda done: None,
) -> JSON:
    """Fills a folder, or resumes filling it, and returns its `dataset.json`.

    Args:
        path: of the images, as `open_source` takes it.
        target: folder to fill; created if missing.
        size: side of the squares, pixels.
        split: share for training where the images have no split of their own.
        seed: of that split.
        random_split: whether to draw a split whatever the names of folders.
        white_level: value that is white in images of more than eight bits a channel.
        channels: of the squares, see `avq.data.channels`.
        workers: processes that decode and resize.
        max_rejected: share of unreadable images above which to stop.
        on_total: called with the number of images before the first is read.
        on_images: called with the number of images finished since the call before.

    Raises:
        InputError: for a source that cannot be opened or has too many unreadable images, a folder
            that holds something else or is being filled by another process, or a full disk.
    """
    source = open_source(path, white_level, channels)
    parts = split_rows(source, split, seed, random=random_split)
    if not len(parts.rows["train"]):
        raise InputError(f"{path!r} has no images to train on ({parts.rule}). Give others.")
    settings = {
        "size": size,
        "seed": seed,
        "split": split,
        "split_rule": parts.rule,
        "white_level": white_level,
        "mode": MODES[channels],
        "source": fingerprint(source),
    }
    folder = ShardFolder(target, DESCRIPTION, settings, older={"mode": MODES[3]})
    if description := folder.finished():
        return description
    per_shard = max(1, min(IMAGES_PER_SHARD, BYTES_PER_SHARD // (channels * size * size)))
    with folder.filling():
        on_total(len(source))
        rejected: dict[str, str] = {}
        finished = []
        with record_reader(source, size, workers) as read:
            for shard in shards_of(parts.rows, per_shard):
                note = folder.note(shard, source)
                if note is None:
                    note = _write(folder, shard, read(shard.rows.tolist()), channels, on_images)
                    folder.keep(shard, note)
                else:
                    on_images(len(shard.rows))
                rejected |= {entry["name"]: entry["reason"] for entry in note["rejected"]}
                require_few(rejected, len(source), max_rejected)
                finished.append((shard, note))
        unused = parts.unused | other_files(source)
        description = settings | {"unused": unused} | _summary(source, size, finished)
        folder.finish(description)
    return description


def _write(
    folder: ShardFolder,
    shard: Shard,
    results: Iterable[Result],
    channels: int,
    on_images: Callable[[int], object],
) -> JSON:
    """Writes a shard and returns its note: names, hashes and sums of its images, and those
    rejected.
    """
    names, hashes, rejected = [], [], []
    sums = np.zeros((2, channels), np.int64)
    with folder.writer(shard) as write:
        for result in results:
            on_images(1)
            if isinstance(result, Rejected):
                rejected.append(asdict(result))
                continue
            write(result.content)
            names.append(result.name)
            hashes.append(result.bits)
            sums += result.sums
    return {"names": names, "hashes": hashes, "rejected": rejected, "sums": sums.tolist()}


def _summary(source: Source, size: int, finished: list[tuple[Shard, JSON]]) -> JSON:
    notes = {
        split: [note for shard, note in finished if shard.split == split]
        for split in ("train", "test")
    }
    names = {split: _joined(notes[split], "names") for split in notes}
    hashes = {split: np.array(_joined(notes[split], "hashes"), np.uint64) for split in notes}
    known = dict(zip(map(source.name, range(len(source))), name_hashes(source), strict=True))
    pairs = near_duplicates(hashes["train"], hashes["test"])
    return {
        "counts": {split: len(images) for split, images in names.items()},
        **_statistics(notes["train"], size),
        "shards": [{"file": shard.file, "images": len(note["names"])} for shard, note in finished],
        "name_hashes": {
            split: to_text(np.array([known[name] for name in of_split], np.uint64))
            for split, of_split in names.items()
        },
        "rejected": _joined([note for _, note in finished], "rejected"),
        "near_duplicates": {
            "pairs": len(pairs),
            "first": [
                {"train": names["train"][i], "test": names["test"][j]}
                for i, j in pairs[:MAX_LISTED]
            ],
        },
    }


def _joined(notes: list[JSON], key: str) -> list[Any]:
    return [value for note in notes for value in note[key]]


def _statistics(notes: list[JSON], size: int) -> JSON:
    """Mean, standard deviation and variance of the pixels in [-1, 1], over all channels and by
    channel; exact, since sums are of whole numbers.

    Raises:
        InputError: when there is no image.
    """
    pixels = size * size * sum(len(note["names"]) for note in notes)
    if not pixels:
        raise InputError("there is no readable image to train on.")
    first, second = np.sum([note["sums"] for note in notes], axis=0)
    mean, square = first / pixels, second / pixels

    def described(mean: Any, square: Any) -> JSON:
        variance = np.asarray((square - mean**2) / 127.5**2)
        values = {"mean": mean / 127.5 - 1, "std": variance**0.5, "variance": variance}
        return {name: np.asarray(value).tolist() for name, value in values.items()}

    whole = described(mean.mean(), square.mean())
    return {f"pixel_{name}": value for name, value in whole.items()} | {
        "channels": described(mean, square)
    }
