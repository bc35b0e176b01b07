"""An evaluation by independent workers: what each shard of the images adds to it, in files.

The files are in a folder beside the one of the measures, which stays when these are written, so
that finishing twice does the same. A shard's file has a record for each run and pass over the
images, a `.npz` file without pickles: the arrays of a `Part`; the outputs of frozen networks.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np

from avq.apply.npz import unpacked
from avq.data import shard_work
from avq.data.dataset import require_few
from avq.data.images import UnreadableImage
from avq.data.pipeline import shard_size
from avq.data.shard_folder import JSON, Shard, ShardFolder, fingerprint, shards_of
from avq.data.shard_work import Callback, ShardWork
from avq.data.sources.shards import ArrayRecords
from avq.errors import InputError
from avq.evaluate.evaluation import Part
from avq.evaluate.measuring import Measured, Measuring
from avq.evaluate.network_metrics import Outputs
from avq.trained import TrainedModel, digest
from avq.workers import Worker

SUFFIX, DESCRIPTION = ".shards", "shards.json"
FORMAT = 1  # of the description and of the records
MOST_BYTES = 1 << 30  # of a record; the features of a shard are 4 MB
Arrays: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class MeasuredShards(ShardWork):
    """Measures of shards, and what they add up to.

    Args:
        file: that the measures will be written to; the shards are in a folder beside it.
        measuring: images and metrics.
        runs: to measure.
        on_images: called after every batch with the number of images in it, once for each run and
            pass.
    """

    def __init__(
        self, file: Path, measuring: Measuring, runs: Sequence[TrainedModel], on_images: Callback
    ) -> None:
        self.sources = {measuring.split: measuring.images.source}
        self._measuring, self._on_images = measuring, on_images
        self._runs = [measuring.of(trained) for trained in runs]
        self._folder = file.with_name(file.name + SUFFIX)
        self._settings = _settings(measuring, runs)
        rows = {measuring.split: range(len(measuring.images))}
        self._shards = shards_of(rows, shard_size(measuring.batch_size))
        self._records_each = len(runs) * measuring.passes

    def fill(
        self, worker: Worker | None, finish: bool, on_total: Callback, on_kept: Callback
    ) -> JSON:
        """Measures a worker's shards, or ends what all workers have done; see `shard_work.fill`,
        for errors, too.

        Returns:
            `rejected`, the unreadable images among them.
        """
        passes = self._records_each
        return shard_work.fill(
            ShardFolder(self._folder, DESCRIPTION, self._settings),
            self._shards,
            self,
            worker=worker,
            finish=finish,
            on_total=lambda images: on_total(images * passes),
            on_kept=lambda images: on_kept(images * passes),
        )

    def write(self, folder: ShardFolder, shard: Shard) -> JSON:
        """Measures a shard, and returns its note: number of records, and unreadable images."""
        rows, images = range(int(shard.rows[0]), int(shard.rows[-1]) + 1), self._measuring.images
        with folder.writer(shard) as write:
            for run in self._runs:
                (part,) = run.parts(self._on_images, rows)
                write(_packed(_arrays(part)))
                for outputs in run.outputs(self._on_images, rows):
                    write(_packed(_numbered(outputs)))
        unreadable = sorted(set(rows) - set(part.rows.tolist()))
        names = [images.source.name(row) for row in unreadable]
        rejected = [{"name": name, "reason": images.rejected[name]} for name in names]
        return {"images": self._records_each, "rejected": rejected}

    def check(self, shard: Shard, note: JSON) -> None:
        """Counts unreadable images, and refuses too many."""
        images = self._measuring.images
        images.rejected |= {entry["name"]: entry["reason"] for entry in note["rejected"]}
        require_few(images.rejected, len(images), images.max_rejected)

    def describe(self, folder: ShardFolder, finished: Iterable[tuple[Shard, JSON]]) -> JSON:
        """Content of `shards.json`."""
        rejected = [entry for _, note in finished for entry in note["rejected"]]
        return self._settings | {"rejected": rejected}

    def measured(self, about: JSON) -> list[Measured]:
        """Measures of each run over the shards of a finished folder.

        Args:
            about: what `fill` has returned.

        Raises:
            InputError: for a damaged shard.
        """
        rejected = {entry["name"]: entry["reason"] for entry in about["rejected"]}
        self._measuring.images.rejected |= rejected
        each = self._measuring.passes
        return [
            run.measured(
                self._records(number * each, partial(_part, run.like())),
                self._records(number * each + 1, _outputs),
            )
            for number, run in enumerate(self._runs)
        ]

    def _records(self, place: int, parsed: Callable[[Arrays], T]) -> Iterator[T]:
        """What the record at a place holds in every shard, parsed."""
        count, files = self._records_each, [shard.file for shard in self._shards]
        records = ArrayRecords(str(self._folder), files, [count] * len(files))
        for number, file in enumerate(files):
            try:
                record = records.content(number * count + place)
                yield parsed(unpacked(io.BytesIO(record), MOST_BYTES))
            except (UnreadableImage, KeyError, ValueError) as error:
                raise InputError(
                    f"{str(self._folder / file)!r} is damaged ({error}). Remove the folder, and "
                    "run all workers again."
                ) from error


def _settings(measuring: Measuring, runs: Sequence[TrainedModel]) -> JSON:
    """What decides the measures, for `shards.json`."""
    return {
        "format": FORMAT,
        "model": [digest(run.model, run.variables) for run in runs],
        "step": [run.step for run in runs],
        "degradation": [asdict(run.degradation) for run in runs],
        "image_size": measuring.summary.size,
        "batch_size": measuring.batch_size,
        "metric": list(measuring.metrics),
        "network": {metric.network: metric.digest for metric in measuring.networks},
        "split": measuring.split,
        "white_level": runs[0].data.white_level,
        "source": fingerprint(measuring.images.source),
    }


def _packed(arrays: Arrays) -> bytes:
    """A `.npz` file of arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _arrays(part: Part) -> Arrays:
    """Arrays of a part by their path in it."""
    leaves = jax.tree_util.tree_leaves_with_path(part)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _part(like: Part, arrays: Arrays) -> Part:
    """The part of these arrays.

    Args:
        like: a part of one image.
        arrays: by their path in a part.

    Raises:
        KeyError, ValueError: for arrays that are missing or of other types or shapes.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    for path, leaf in leaves:
        array = arrays[_name(path)]
        if (array.dtype, array.shape[1:]) != (leaf.dtype, leaf.shape[1:]):
            raise ValueError(f"{_name(path)} is {array.dtype} of {array.shape}")
    part: Part = jax.tree.unflatten(structure, [arrays[_name(path)] for path, _ in leaves])
    return part


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _numbered(outputs: Outputs) -> Arrays:
    """Outputs of networks by the number of the network."""
    return {str(number): array for number, array in enumerate(outputs)}


def _outputs(arrays: Arrays) -> Outputs:
    return tuple(arrays[str(number)] for number in range(len(arrays)))
