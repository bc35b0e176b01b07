"""Filling a folder of shards: by one call, or by independent workers and a call that finishes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from avq.data.shard_folder import JSON, Shard, ShardFolder
from avq.data.sources import Source
from avq.errors import InputError
from avq.workers import Worker

Callback = Callable[[int], object]
MAX_NAMED = 3  # missing shards


class ShardWork(ABC):
    """How the shards of a folder are written and described.

    Attributes:
        sources: images of each split, which the rows of its shards are of.
    """

    sources: Mapping[str, Source]

    @abstractmethod
    def write(self, folder: ShardFolder, shard: Shard) -> JSON:
        """Writes a shard, and returns its note; `images` in it is their number."""

    @abstractmethod
    def check(self, shard: Shard, note: JSON) -> None:
        """Counts the unreadable images of a finished shard.

        Raises:
            InputError: when there are too many.
        """

    @abstractmethod
    def describe(self, folder: ShardFolder, finished: Iterable[tuple[Shard, JSON]]) -> JSON:
        """Makes the description of the folder from all shards and their notes, which come in order,
        once, as they are finished or read; there may be too many to hold.
        """


def fill(
    folder: ShardFolder,
    shards: Sequence[Shard],
    work: ShardWork,
    *,
    worker: Worker | None,
    finish: bool,
    on_total: Callback,
    on_kept: Callback,
) -> JSON:
    """Fills a folder, or resumes filling it.

    Args:
        folder: to fill.
        shards: all of them.
        work: what to write.
        worker: writes its share of the shards alone; None writes all, and the description.
        finish: whether workers have written all shards, and only the description is to be written.
        on_total: called with the number of images before the first is read.
        on_kept: called with the number of images of a shard that an earlier call has finished.

    Returns:
        The description; of a worker `rejected` of its shards alone, unless the folder is finished.

    Raises:
        InputError: when too many images are unreadable, the folder is in use or another's, or
            `finish` misses shards, which are named.
    """
    if description := folder.finished():
        return description
    own = worker.share(shards) if worker else shards
    if finish:  # before the folder is touched
        _require_none(folder.missing(own), len(own))
    with folder.held(worker):
        if (description := folder.begin()) is None:
            if finish:
                finished = _finished(folder, own, work)
            else:
                on_total(sum(len(shard.rows) for shard in own))
                finished = ((shard, _filled(folder, shard, work, on_kept)) for shard in own)
            if worker:
                rejected = [entry for _, note in finished for entry in note["rejected"]]
                description = {"rejected": rejected}
            else:
                counts: dict[str, int] = {}
                content = work.describe(folder, _counted(finished, counts))
                description = folder.finish(content, counts)
    folder.tidy()
    return description


def _filled(folder: ShardFolder, shard: Shard, work: ShardWork, on_kept: Callback) -> JSON:
    """Note of a shard, which is written unless an earlier call has."""
    note = folder.note(shard, work.sources[shard.split])
    if note is None:
        note = work.write(folder, shard)
        folder.keep(shard, note)
    else:
        on_kept(len(shard.rows))
    work.check(shard, note)
    return note


def _finished(
    folder: ShardFolder, shards: Sequence[Shard], work: ShardWork
) -> Iterator[tuple[Shard, JSON]]:
    """All shards and their notes.

    Raises:
        InputError: at the end when some are missing, or once too many images are unreadable.
    """
    missing = []
    for shard in shards:
        note = folder.note(shard, work.sources[shard.split])
        if note is None:
            missing.append(shard.file)
        else:
            work.check(shard, note)
            yield shard, note
    _require_none(missing, len(shards))


def _require_none(missing: Sequence[str], shards: int) -> None:
    """Refuses to finish a folder of so many shards of which some are missing."""
    if missing:
        listed = ", ".join(missing[:MAX_NAMED]) + (", ..." if missing[MAX_NAMED:] else "")
        raise InputError(
            f"{len(missing)} of {shards} shards are missing: {listed}. Run all workers again; "
            "those that have theirs end at once."
        )


def _counted(
    finished: Iterable[tuple[Shard, JSON]], counts: dict[str, int]
) -> Iterator[tuple[Shard, JSON]]:
    """The same, as it notes the number of images of each file."""
    for shard, note in finished:
        counts[shard.file] = note["images"]
        yield shard, note
