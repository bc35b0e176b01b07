"""`avq prepare`: cuts any set of images into squares, in ArrayRecord shards.

Shard k of a split holds `per_shard` rows from row k times `per_shard` on, so its content depends on
the source and the settings alone. A shard gets its name once it is complete; its counts are kept
in a note under `unfinished/` until all shards are complete. So the same command resumes after any
interruption and ends in the same bytes.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Int

from avq import lock
from avq.data.dataset import require_few
from avq.data.duplicates import near_duplicates
from avq.data.images import UnreadableImage
from avq.data.names import to_text
from avq.data.records import Rejected, Result, record_reader
from avq.data.sources import Source, open_source
from avq.data.sources.base import name_hashes
from avq.data.sources.prepared import DESCRIPTION, UNFINISHED
from avq.data.split import other_files, split_rows
from avq.errors import InputError
from avq.json_files import read_json, write_json
from avq.lock import locked

IMAGES_PER_SHARD = 1024
BYTES_PER_SHARD = 1 << 28
SETTINGS = "settings.json"
WRITER = "group_size:1,uncompressed"  # every record can be read alone
MAX_LISTED = 1000
JSON: TypeAlias = dict[str, Any]


@dataclass
class Shard:
    """One file of a split.

    Attributes:
        split: 'train' or 'test'.
        file: name of the file.
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
    random_split: bool = False,
    white_level: int = 0,
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
        workers: processes that decode and resize.
        max_rejected: share of unreadable images above which to stop.
        on_total: called with the number of images before the first is read.
        on_images: called with the number of images finished since the call before.

    Raises:
        InputError: for a source that cannot be opened or has too many unreadable images, a folder
            that holds something else or is being filled by another process, or a full disk.
    """
    source = open_source(path, white_level)
    parts = split_rows(source, split, seed, random=random_split)
    if not len(parts.rows["train"]):
        raise InputError(f"{path!r} has no images to train on ({parts.rule}). Give others.")
    settings = {
        "size": size,
        "seed": seed,
        "split": split,
        "split_rule": parts.rule,
        "white_level": white_level,
        "source": _fingerprint(source),
    }
    notes = target / UNFINISHED
    if description := _finished(target, settings):
        shutil.rmtree(notes, ignore_errors=True)  # left by a process killed while it removed them
        return description
    with locked(notes), _writable(target):
        write_json(notes / SETTINGS, settings)
        shards = _shards(parts.rows, size)
        on_total(len(source))
        rejected: dict[str, str] = {}
        finished = []
        with record_reader(source, size, workers) as read:
            for shard in shards:
                note = _valid_note(notes, shard, source)
                if note is None:
                    note = _write(target, shard, read(shard.rows.tolist()), on_images)
                    write_json(_note_path(notes, shard), note)
                else:
                    on_images(len(shard.rows))
                rejected |= {entry["name"]: entry["reason"] for entry in note["rejected"]}
                require_few(rejected, len(source), max_rejected)
                finished.append((shard, note))
        unused = parts.unused | other_files(source)
        description = settings | {"unused": unused} | _summary(source, size, finished)
        write_json(target / DESCRIPTION, description)
        shutil.rmtree(notes)
    return description


def _finished(target: Path, settings: JSON) -> JSON | None:
    """Description of a folder that an earlier call has filled; None where work is left.

    Raises:
        InputError: for a folder that holds something else, or was begun with other settings.
    """
    unfinished = read_json(target / UNFINISHED / SETTINGS)
    description = read_json(target / DESCRIPTION) if unfinished is None else None
    before = unfinished or description
    if before is None and target.exists() and not _is_empty(target):
        raise InputError(f"{str(target)!r} is not an empty folder. Give another.")
    if before is not None:
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            raise InputError(
                f"{str(target)!r} was begun with another {' and '.join(changed)}. "
                "Give the same, or another folder."
            )
    return description


def _is_empty(target: Path) -> bool:
    """Whether a folder holds nothing but, perhaps, a folder for notes without any."""
    return target.is_dir() and all(
        path.name == UNFINISHED and {note.name for note in path.iterdir()} <= {lock.NAME}
        for path in target.iterdir()
    )


def _fingerprint(source: Source) -> JSON:
    """Identifies a source by the number and names of its images."""
    names = hashlib.sha256()
    for row in range(len(source)):
        names.update(source.name(row).encode("utf-8", "surrogateescape") + b"\n")
    return {"images": len(source), "names_sha256": names.hexdigest()}


def _shards(rows_by_split: dict[str, Int[np.ndarray, "_"]], size: int) -> list[Shard]:
    per_shard = max(1, min(IMAGES_PER_SHARD, BYTES_PER_SHARD // (3 * size * size)))
    shards = []
    for split, rows in rows_by_split.items():
        total = -(-len(rows) // per_shard)
        for k in range(total):
            file = f"{split}-{k:05d}-of-{total:05d}.array_record"
            shards.append(Shard(split, file, rows[k * per_shard : (k + 1) * per_shard]))
    return shards


def _note_path(notes: Path, shard: Shard) -> Path:
    return notes / f"{shard.file}.json"


def _valid_note(notes: Path, shard: Shard, source: Source) -> JSON | None:
    """Note of a finished shard; None when one of its unreadable files can be read now."""
    note: JSON | None = read_json(_note_path(notes, shard))
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
    target: Path,
    shard: Shard,
    results: Iterable[Result],
    on_images: Callable[[int], object],
) -> JSON:
    """Writes a shard and returns its note: names, hashes and sums of its images, and those
    rejected.
    """
    part = target / UNFINISHED / "shard"
    names, hashes, rejected = [], [], []
    sums = np.zeros((2, 3), np.int64)
    writer = ArrayRecordWriter(str(part), WRITER)
    try:
        for result in results:
            on_images(1)
            if isinstance(result, Rejected):
                rejected.append(asdict(result))
                continue
            writer.write(result.content)
            names.append(result.name)
            hashes.append(result.bits)
            sums += result.sums
    finally:
        writer.close()
    os.replace(part, target / shard.file)
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


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise
    except (OSError, RuntimeError) as error:  # the latter is what ArrayRecord's writer raises
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"{str(target)!r} cannot be written ({reason}). Finished shards are kept; the same "
            "command resumes."
        ) from error
