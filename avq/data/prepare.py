"""`avq prepare`: cuts any set of images into squares, in ArrayRecord shards."""

from collections.abc import Callable, Iterable
from dataclasses import asdict

import numpy as np

from avq.data import shard_work
from avq.data.channels import MODES
from avq.data.dataset import require_few
from avq.data.description import SetDescription
from avq.data.records import Rejected, Result, record_reader
from avq.data.shard_folder import JSON, Shard, ShardFolder, fingerprint, shards_of
from avq.data.shard_work import ShardWork
from avq.data.sources import Source, open_source
from avq.data.sources.prepared import DESCRIPTION, SPLITS
from avq.data.split import other_files, split_rows
from avq.errors import InputError
from avq.storage.objects import AnyPath
from avq.workers import Worker

IMAGES_PER_SHARD = 1024
BYTES_PER_SHARD = 1 << 28


def prepare(
    path: str,
    target: AnyPath,
    *,
    size: int,
    split: float = 0.8,
    seed: int = 1967,
    random_split: bool = False,
    white_level: int = 0,
    channels: int = 3,
    workers: int = 1,
    max_rejected: float = 0.01,
    worker: Worker | None = None,
    finish: bool = False,
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda done: None,
) -> JSON:
    """Fills a folder, or resumes filling it, and returns its `dataset.json`.

    Several workers, in any order and on any machines that share the folder, and a last call with
    `finish` end in the same bytes as one call.

    Args:
        path: of the images, as `open_source` takes it.
        target: folder to fill; created if missing; may be on object storage.
        size: side of the squares, pixels.
        split: share for training where the images have no split of their own.
        seed: of that split.
        random_split: whether to draw a split whatever the names of folders.
        white_level: value that is white in images of more than eight bits a channel.
        channels: of the squares, see `avq.data.channels`.
        workers: processes that decode and resize.
        max_rejected: share of unreadable images above which to stop.
        worker: fills its share of the shards alone, and returns their `rejected`; None fills all.
        finish: whether workers have filled it, and `dataset.json` is to be written.
        on_total: called with the number of images before the first is read.
        on_images: called with the number of images finished since the call before.

    Raises:
        InputError: for a source that cannot be opened or has too many unreadable images, a folder
            that holds something else or is being filled by another process, shards that workers
            have not written, or a full disk.
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
    per_shard = max(1, min(IMAGES_PER_SHARD, BYTES_PER_SHARD // (channels * size * size)))
    shards = shards_of(parts.rows, per_shard)
    about = settings | {"unused": parts.unused | other_files(source)}
    with record_reader(source, size, workers) as read:
        work = _SquareShards(source, read, about, max_rejected, on_images)
        return shard_work.fill(
            folder,
            shards,
            work,
            worker=worker,
            finish=finish,
            on_total=on_total,
            on_kept=on_images,
        )


class _SquareShards(ShardWork):
    """Shards of squares, and what `dataset.json` says of them."""

    def __init__(
        self,
        source: Source,
        read: Callable[[Iterable[int]], Iterable[Result]],
        about: JSON,
        max_rejected: float,
        on_images: Callable[[int], object],
    ) -> None:
        self.sources = dict.fromkeys(SPLITS, source)
        self._source, self._read, self._about = source, read, about
        self._max_rejected, self._on_images = max_rejected, on_images
        self._rejected: dict[str, str] = {}

    def write(self, folder: ShardFolder, shard: Shard) -> JSON:
        """Writes a shard and returns its note: number, names, hashes and sums of its images, and
        those rejected.
        """
        names, hashes, rejected = [], [], []
        sums = np.zeros((2, len(self._about["mode"])), np.int64)  # a letter is a channel
        with folder.writer(shard) as write:
            for result in self._read(map(int, shard.rows)):
                self._on_images(1)
                if isinstance(result, Rejected):
                    rejected.append(asdict(result))
                    continue
                write(result.content)
                names.append(result.name)
                hashes.append(result.bits)
                sums += result.sums
        return {
            "images": len(names),
            "names": names,
            "hashes": hashes,
            "rejected": rejected,
            "sums": sums.tolist(),
        }

    def check(self, shard: Shard, note: JSON) -> None:
        """Counts unreadable images, and refuses too many."""
        self._rejected |= {entry["name"]: entry["reason"] for entry in note["rejected"]}
        require_few(self._rejected, len(self._source), self._max_rejected)

    def describe(self, folder: ShardFolder, finished: Iterable[tuple[Shard, JSON]]) -> JSON:
        """Content of `dataset.json`."""
        with folder.scratch() as scratch:
            description = SetDescription(folder, scratch, self._source)
            for shard, note in finished:
                description.add(shard, note)
            return self._about | description.content(self._about["size"])
