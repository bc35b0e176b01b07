"""A folder that is filled with ArrayRecord shards, and may be interrupted at any moment.

Shard k of a split holds `per_shard` rows from row k times `per_shard` on, so its content depends on
the source and the settings alone. A shard gets its name once it is complete; what was counted in it
is kept in a note under `unfinished/` until all shards are complete. So the same command resumes
after any interruption and ends in the same bytes, and so do several workers, each with its shards.
"""

import hashlib
import json
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from array_record.python.array_record_module import ArrayRecordWriter

from avq import lock
from avq.data.images import UnreadableImage
from avq.data.rows import Rows
from avq.data.sources import Source
from avq.data.sources.prepared import SETTINGS, UNFINISHED, shard_file
from avq.data.sources.shards import count_records
from avq.errors import InputError
from avq.json_files import read_json, write_json
from avq.lock import InUse, locked
from avq.storage.objects import AnyPath, RemotePath, at, missing, move
from avq.workers import Worker

log = logging.getLogger("avq")

BEGIN = "begin"
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
    rows: Rows


def shards_of(rows_by_split: Mapping[str, Rows], per_shard: int) -> list[Shard]:
    """Shards of the rows of each split."""
    shards = []
    for split, rows in rows_by_split.items():
        total = -(-len(rows) // per_shard)
        for k in range(total):
            part = rows[k * per_shard : (k + 1) * per_shard]
            shards.append(Shard(split, shard_file(split, k, total), part))
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
        target: the folder, created by `held`; may be on object storage.
        description: name of the file that describes it, written last.
        settings: what decides its content, as JSON; the description holds them, too.
        older: values in effect in folders that are older than the setting, by name.
    """

    def __init__(
        self,
        target: AnyPath,
        description: str,
        settings: JSON,
        older: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._target, self._settings, self._older = at(target), settings, older
        self._notes, self._description = self._target / UNFINISHED, self._target / description
        self._part = Path("shard")  # set by `held`

    def finished(self) -> JSON | None:
        """Description of a folder that an earlier call has filled; None where work is left.

        Raises:
            InputError: for a folder that holds something else, or was begun with other settings.
        """
        is_empty = _is_empty(self._target)  # first: another worker may begin while this one looks
        unfinished = read_json(self._notes / SETTINGS)
        description: JSON | None = read_json(self._description) if unfinished is None else None
        before = unfinished or description
        if before is None and not is_empty:
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
        if description:
            self.tidy()
        return description

    @contextmanager
    def held(self, worker: Worker | None = None) -> Iterator[None]:
        """Holds the folder for this process alone; for a worker, beside those of other numbers. A
        worker waits for a process that holds it alone, and for another of its own number. On object
        storage nothing can be held: two processes put the same shards, each in one step.

        Raises:
            InputError: when another process holds it, or it cannot be written to.
        """
        if isinstance(self._notes, RemotePath):
            with tempfile.TemporaryDirectory() as folder:
                self._part = Path(folder, "shard")
                yield
            return
        if worker is None:
            with locked(self._notes):
                self._part = self._notes / "shard"
                yield
            return
        own = self._notes / f"worker-{worker.index}-of-{worker.count}"
        with _waited_for(self._notes, shared=True), _waited_for(own):
            for left in own.glob("part*"):  # by one that was killed
                left.unlink()
            # A name of its own, lest two write one file should the disk's locks hold on one machine
            # alone.
            self._part = own / f"part-{socket.gethostname()}-{os.getpid()}"
            yield

    def begin(self) -> JSON | None:
        """Records the settings, unless another process has, in a folder that is held.

        Returns:
            As `finished`: another process may have finished it while this one waited.
        """
        if isinstance(self._notes, RemotePath):
            description = self.finished()
            if not description and not (self._notes / SETTINGS).create(json.dumps(self._settings)):
                return self.finished()  # refuses other settings
            return description
        with locked(self._notes / BEGIN, wait=True):
            description = self.finished()
            if not description and not (self._notes / SETTINGS).exists():
                with self._writable():
                    write_json(self._notes / SETTINGS, self._settings)
        return description

    def missing(self, shards: Iterable[Shard]) -> list[str]:
        """Files of the shards that are not written, or have no note."""
        names = {shard.file: {shard.file, f"{UNFINISHED}/{_note(shard)}"} for shard in shards}
        gone = set(missing(self._target, set().union(*names.values())))
        return [file for file, of_shard in names.items() if of_shard & gone]

    def read_note(self, shard: Shard) -> Any:
        """Note of a shard, as `keep` was given it; None where there is none."""
        return read_json(self._notes / _note(shard))

    def note(self, shard: Shard, source: Source) -> JSON | None:
        """Note of a finished shard; None when one of the two is gone, or an unreadable image can be
        read now.
        """
        note: JSON | None = self.read_note(shard)
        if note is None or not (self._target / shard.file).is_file():
            return None
        if not note["rejected"]:
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
        with self._writable():
            writer = ArrayRecordWriter(str(self._part), WRITER)

        def write(record: bytes) -> None:
            with self._writable():
                writer.write(record)

        try:
            yield write
        finally:
            with self._writable():
                writer.close()
        with self._writable():
            move(self._part, self._target / shard.file)

    def keep(self, shard: Shard, note: JSON) -> None:
        """Keeps the note of a finished shard: `rejected`, names and reasons of unreadable images,
        and whatever else the description is made of.
        """
        with self._writable():
            write_json(self._part, note)
            move(self._part, self._notes / _note(shard))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder for what is gathered of all shards until they are described.

        Raises:
            InputError: when it cannot be written to.
        """
        scratch = self._part.with_name("scratch")
        shutil.rmtree(scratch, ignore_errors=True)  # of a call that was killed
        try:
            scratch.mkdir()
            yield scratch
        except OSError as error:
            raise InputError(
                f"{str(scratch)!r} cannot be written ({error.strerror}). Finished shards are kept; "
                "the same command resumes."
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def finish(self, description: JSON, counts: Mapping[str, int]) -> JSON:
        """Writes the description, and returns it.

        Args:
            description: of the folder.
            counts: number of images by file.

        Raises:
            InputError: when a file is damaged or has another number of images, or the disk is full.
        """
        if isinstance(self._target, RemotePath):
            _require_put(self._target, counts)
        else:
            for file, images in counts.items():
                _require_images(self._target / file, images)
        with self._writable():
            write_json(self._description, description)
            (self._notes / SETTINGS).unlink()
        return description

    def tidy(self) -> None:
        """Removes what is left of the notes of a finished folder. Call when it is no longer held:
        some network disks keep files that are open.
        """
        if self._description.is_file() and not (self._notes / SETTINGS).is_file():
            if isinstance(self._notes, RemotePath):
                self._notes.remove(list(self._notes.files()))
            else:
                shutil.rmtree(self._notes, ignore_errors=True)

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


def _note(shard: Shard) -> str:
    return f"{shard.file}.json"


def _is_empty(target: AnyPath) -> bool:
    """Whether there is nothing at a path but, perhaps, a folder where nothing was begun."""
    if isinstance(target, RemotePath):
        return all(name.startswith(f"{UNFINISHED}/") for name in target.files())
    if not target.exists():
        return True
    if not target.is_dir() or any(path.name != UNFINISHED for path in target.iterdir()):
        return False
    notes = target / UNFINISHED
    return not notes.exists() or not any(notes.iterdir()) or (notes / lock.NAME).exists()


@contextmanager
def _waited_for(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds a folder, once those that hold it have ended; says that it waits."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, shared=shared))
        except InUse as error:
            log.warning("waiting: %s", str(error).partition(". ")[0])
            stack.enter_context(locked(folder, wait=True, shared=shared))
        yield


def _require_put(target: RemotePath, names: Iterable[str]) -> None:
    """Refuses a folder on object storage that lacks shards; one that is there is whole."""
    if lacking := missing(target, names):
        raise InputError(f"{str(target)!r} lacks {lacking[0]}. Run the same command again.")


def _require_images(file: Path, images: int) -> None:
    try:
        count = count_records(file)
    except InputError as error:
        raise InputError(f"{error} Remove it, and run the command that wrote it again.") from error
    if count != images:
        raise InputError(
            f"{str(file)!r} has {count} images, where {images} were written. Remove it, and run "
            "the command that wrote it again."
        )
