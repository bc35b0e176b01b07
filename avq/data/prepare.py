"""`avq prepare`: any set of images to ArrayRecord shards of equal squares.

Shard k of a split holds the rows from k times `per_shard` on, so what a shard holds depends on
nothing but the source and the settings. A shard appears under its name when it is whole; what was
counted in it is kept beside it, under `unfinished/`, until all are there. So the same command goes
on after any interruption and ends in the same bytes.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Int

from avq import lock
from avq.data.dataset import require_few
from avq.data.duplicates import near_duplicates, perceptual_hash
from avq.data.images import UnreadableImage, centre_square, encode
from avq.data.sources import DATASET, UNFINISHED, open_source, split_rows
from avq.data.sources.base import EncodedImages
from avq.errors import InputError
from avq.json_files import read_json, write_json
from avq.lock import locked

IMAGES_PER_SHARD = 1024
BYTES_PER_SHARD = 1 << 28
SETTINGS = "settings.json"
WRITER = "group_size:1,uncompressed"  # every record can be read alone
MAX_LISTED = 1000
CHUNK = 8  # images that a worker takes at a time
Result = tuple[str, bytes | str, Any, int]  # name, record or reason, sums, hash


@dataclass
class Shard:
    """A part of a split.

    Attributes:
        split: 'train' or 'test'.
        file: its name.
        rows: of the source.
    """

    split: str
    file: str
    rows: Int[np.ndarray, "_"]


def prepare(
    path: str,
    target: Path,
    *,
    size: int,
    split: float = 0.8,
    seed: int = 1967,
    workers: int = 1,
    max_rejected: float = 0.01,
    start: Callable[[int], object] = lambda total: None,
    each: Callable[[int], object] = lambda done: None,
) -> dict[str, Any]:
    """Fills a folder, or goes on filling it, and returns its `dataset.json`.

    Args:
        path: of the images, as `open_source` takes it.
        target: folder to fill; made if missing.
        size: side of the squares, pixels.
        split: share of the training images where the source has no split of its own.
        seed: of the random split.
        workers: processes that decode and resize.
        max_rejected: share of unreadable images at which to stop.
        start: called with the number of images before the work begins.
        each: called with the number of images that are done since.

    Raises:
        InputError: for a source that cannot be opened or has too many unreadable images, a folder
            that holds something else or is being filled by another process, or a disk that is full.
    """
    source = open_source(path)
    settings = {"size": size, "seed": seed, "split": split, "source": _fingerprint(source)}
    notes = target / UNFINISHED
    if done := _finished(target, settings):
        shutil.rmtree(notes, ignore_errors=True)  # where it was killed while it took them away
        return done
    with locked(notes), _writable(target):
        write_json(notes / SETTINGS, settings)
        shards = _shards(split_rows(source, split, seed), size)
        start(len(source))
        rejected: dict[str, str] = {}
        counted = []
        with _readers(source, size, workers) as read:
            for shard in shards:
                note = _still_true(notes, shard, source)
                if note is None:
                    note = _write(target, shard, read(shard.rows.tolist()), each)
                    write_json(_note_path(notes, shard), note)
                else:
                    each(len(shard.rows))
                rejected |= {entry["name"]: entry["reason"] for entry in note["rejected"]}
                require_few(rejected, len(source), max_rejected)
                counted.append(note)
        about = settings | _summary(settings, shards, counted)
        write_json(target / DATASET, about)
        shutil.rmtree(notes)
    return about


def _finished(target: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier call has finished; None where there is work to do."""
    unfinished = read_json(target / UNFINISHED / SETTINGS)
    about = read_json(target / DATASET) if unfinished is None else None
    before = unfinished or about
    if before is None and target.exists() and not _is_empty(target):
        raise InputError(f"{str(target)!r} is not an empty folder. Give another.")
    if before is not None:
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            raise InputError(
                f"{str(target)!r} was begun with another {' and '.join(changed)}. "
                "Give the same, or another folder."
            )
    return about


def _is_empty(target: Path) -> bool:
    """Whether a folder holds nothing, or nothing but the folder for notes without one."""
    return target.is_dir() and all(
        path.name == UNFINISHED and {note.name for note in path.iterdir()} <= {lock.NAME}
        for path in target.iterdir()
    )


def _fingerprint(source: EncodedImages) -> dict[str, Any]:
    """By which a source is known again: number and names of its images."""
    names = hashlib.sha256()
    for row in range(len(source)):
        names.update(source.name(row).encode("utf-8", "surrogateescape") + b"\n")
    return {"images": len(source), "names_sha256": names.hexdigest()}


def _shards(rows: dict[str, np.ndarray], size: int) -> list[Shard]:
    per_shard = max(1, min(IMAGES_PER_SHARD, BYTES_PER_SHARD // (3 * size * size)))
    shards = []
    for split, found in rows.items():
        total = -(-len(found) // per_shard)
        for k in range(total):
            file = f"{split}-{k:05d}-of-{total:05d}.array_record"
            shards.append(Shard(split, file, found[k * per_shard : (k + 1) * per_shard]))
    return shards


def _note_path(notes: Path, shard: Shard) -> Path:
    return notes / f"{shard.file}.json"


def _still_true(notes: Path, shard: Shard, source: EncodedImages) -> dict[str, Any] | None:
    """What was counted in a whole shard, unless one of its unreadable files has been mended."""
    note = read_json(_note_path(notes, shard))
    if note is None or not note["rejected"]:
        return note
    unreadable = {entry["name"] for entry in note["rejected"]}
    for row in shard.rows:
        if source.name(int(row)) in unreadable:
            try:
                source[int(row)]
                return None
            except UnreadableImage:
                pass
    return note


def _write(
    target: Path, shard: Shard, results: Iterable[Result], each: Callable[[int], object]
) -> dict[str, Any]:
    """Writes a shard and returns what was counted in it."""
    part = target / UNFINISHED / "shard"
    names, hashes, rejected = [], [], []
    sums = np.zeros((2, 3), np.int64)
    writer = ArrayRecordWriter(str(part), WRITER)
    try:
        for name, record, moments, bits in results:
            each(1)
            if isinstance(record, str):
                rejected.append({"name": name, "reason": record})
                continue
            writer.write(record)
            names.append(name)
            hashes.append(bits)
            sums += moments
    finally:
        writer.close()
    os.replace(part, target / shard.file)
    return {"names": names, "hashes": hashes, "rejected": rejected, "sums": sums.tolist()}


def _summary(
    settings: dict[str, Any], shards: list[Shard], counted: list[dict[str, Any]]
) -> dict[str, Any]:
    of = {
        split: [note for shard, note in zip(shards, counted, strict=True) if shard.split == split]
        for split in ("train", "test")
    }
    names = {s: [name for note in notes for name in note["names"]] for s, notes in of.items()}
    hashes = {
        s: np.array([bits for note in notes for bits in note["hashes"]], np.uint64)
        for s, notes in of.items()
    }
    pairs = near_duplicates(hashes["train"], hashes["test"])
    return {
        "counts": {split: len(found) for split, found in names.items()},
        **_statistics(of["train"], settings["size"]),
        "shards": [
            {"file": shard.file, "images": len(note["names"])}
            for shard, note in zip(shards, counted, strict=True)
        ],
        "rejected": [entry for note in counted for entry in note["rejected"]],
        "near_duplicates": {
            "pairs": len(pairs),
            "first": [
                {"train": names["train"][i], "test": names["test"][j]}
                for i, j in pairs[:MAX_LISTED]
            ],
        },
    }


def _statistics(notes: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """Of all training pixels in [-1, 1]; exact, for the sums are of whole numbers."""
    pixels = size * size * sum(len(note["names"]) for note in notes)
    if not pixels:
        raise InputError("there is no readable image to train on.")
    first, second = np.sum([note["sums"] for note in notes], axis=0)
    mean, square = first / pixels, second / pixels

    def described(mean: Any, square: Any) -> dict[str, Any]:
        variance = np.asarray((square - mean**2) / 127.5**2)
        values = {"mean": mean / 127.5 - 1, "std": variance**0.5, "variance": variance}
        return {name: np.asarray(value).tolist() for name, value in values.items()}

    whole = described(mean.mean(), square.mean())
    return {f"pixel_{name}": value for name, value in whole.items()} | {
        "channels": described(mean, square)
    }


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise
    except (OSError, RuntimeError) as error:  # the latter is what ArrayRecord's writer raises
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"{str(target)!r} cannot be written ({reason}). What is whole stays; the same command "
            "goes on."
        ) from error


class _Reader:
    """A row of a source to a record, in the process where it is called."""

    def __init__(self, source: EncodedImages, size: int) -> None:
        self.source, self.size = source, size

    def __call__(self, row: int) -> Result:
        name = self.source.name(row)
        try:
            square = centre_square(self.source[row], self.size)
        except UnreadableImage as error:
            return name, str(error), 0, 0
        pixels = square.reshape(-1, 3).astype(np.int64)
        moments = np.stack([pixels.sum(0), (pixels**2).sum(0)])
        return name, encode(square, name), moments, perceptual_hash(square)


_reader: _Reader


def _start_worker(source: EncodedImages, size: int) -> None:
    global _reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _reader = _Reader(source, size)


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for more rows for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _read_in_worker(row: int) -> Result:
    return _reader(row)


@contextmanager
def _readers(
    source: EncodedImages, size: int, workers: int
) -> Iterator[Callable[[Iterable[int]], Iterator[Result]]]:
    """A function from rows to results in the same order, computed by worker processes."""
    if workers < 2:
        yield partial(map, _Reader(source, size))
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (source, size)
    )
    try:
        yield partial(pool.map, _read_in_worker, chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, perhaps for want of memory. Run the same command with fewer "
            "--workers; it goes on."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
