"""A folder that is filled with ArrayRecord shards, and may be interrupted at any moment.

Shard k of a split holds `per_shard` rows from row k times `per_shard` on, so its content depends on
the source and the settings alone. A shard gets its name once it is complete; what was counted in it
is kept in a note under `unfinished/` until all shards are complete. So the same command resumes
after any interruption and ends in the same bytes.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Int

from avq import lock
from avq.data.images import UnreadableImage
from avq.data.sources import Source
from avq.data.sources.prepared import UNFINISHED
from avq.errors import InputError
from avq.json_files import read_json, write_json
from avq.lock import locked

SETTINGS = "settings.json"
WRITER = "group_size:1,uncompressed"  # every record can be read alone
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


def shards_of(rows_by_split: Mapping[str, Int[np.ndarray, "_"]], per_shard: int) -> list[Shard]:
    """Shards of the rows of each split."""
    shards = []
    for split, rows in rows_by_split.items():
        total = -(-len(rows) // per_shard)
        for k in range(total):
            file = f"{split}-{k:05d}-of-{total:05d}.array_record"
            shards.append(Shard(split, file, rows[k * per_shard : (k + 1) * per_shard]))
    return shards


def fingerprint(source: Source) -> JSON:
    """Identifies a source by the number and names of its images."""
    names = hashlib.sha256()
    for row in range(len(source)):
        names.update(source.name(row).encode("utf-8", "surrogateescape") + b"\n")
    return {"images": len(source), "names_sha256": names.hexdigest()}


class ShardFolder:
    """A folder to fill, or to resume filling.

    Args:
        target: the folder; created by `filling`.
        description: name of the file that describes it, written last.
        settings: what decides its content, as JSON; the description holds them, too.
        older: values in effect in folders that are older than the setting, by name.
    """

    def __init__(
        self,
        target: Path,
        description: str,
        settings: JSON,
        older: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._target, self._settings, self._older = target, settings, older
        self._notes, self._description = target / UNFINISHED, target / description

    def finished(self) -> JSON | None:
        """Description of a folder that an earlier call has filled; None where work is left.

        Raises:
            InputError: for a folder that holds something else, or was begun with other settings.
        """
        unfinished = read_json(self._notes / SETTINGS)
        description: JSON | None = read_json(self._description) if unfinished is None else None
        before = unfinished or description
        if before is None and self._target.exists() and not _is_empty(self._target):
            raise InputError(f"{str(self._target)!r} is not an empty folder. Give another.")
        if before is not None:
            settings = self._settings
            before = {**self._older, **before}
            changed = [key for key in settings if before.get(key) != settings[key]]
            if changed:
                raise InputError(
                    f"{str(self._target)!r} was begun with another {' and '.join(changed)}. "
                    "Give the same, or another folder."
                )
        if description:  # of notes left by a process killed while it removed them
            shutil.rmtree(self._notes, ignore_errors=True)
        return description

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Holds the folder for this process.

        Raises:
            InputError: when another process holds it, or it cannot be written to.
        """
        with locked(self._notes):
            with self._writable():
                write_json(self._notes / SETTINGS, self._settings)
            yield

    def note(self, shard: Shard, source: Source) -> JSON | None:
        """Note of a finished shard; None when one of its unreadable files can be read now."""
        note: JSON | None = read_json(self._note_path(shard))
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

    @contextmanager
    def writer(self, shard: Shard) -> Iterator[Callable[[bytes], object]]:
        """A function that writes a record. The shard gets its name at the end."""
        part = self._notes / "shard"
        with self._writable():
            writer = ArrayRecordWriter(str(part), WRITER)

        def write(record: bytes) -> None:
            with self._writable():
                writer.write(record)

        try:
            yield write
        finally:
            with self._writable():
                writer.close()
        with self._writable():
            os.replace(part, self._target / shard.file)

    def keep(self, shard: Shard, note: JSON) -> None:
        """Keeps the note of a finished shard: `rejected`, names and reasons of unreadable images,
        and whatever else the description is made of.
        """
        with self._writable():
            write_json(self._note_path(shard), note)

    def finish(self, description: JSON) -> None:
        """Writes the description, and removes the notes."""
        with self._writable():
            write_json(self._description, description)
            shutil.rmtree(self._notes)

    def _note_path(self, shard: Shard) -> Path:
        return self._notes / f"{shard.file}.json"

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # the latter is what ArrayRecord's writer raises
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            raise InputError(
                f"{str(self._target)!r} cannot be written ({reason}). Finished shards are kept; "
                "the same command resumes."
            ) from error


def _is_empty(target: Path) -> bool:
    """Whether a folder holds nothing but, perhaps, a folder for notes without any."""
    return target.is_dir() and all(
        path.name == UNFINISHED and {note.name for note in path.iterdir()} <= {lock.NAME}
        for path in target.iterdir()
    )
