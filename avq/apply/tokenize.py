"""A whole data set as codes, over all devices, restartably."""

import json
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Int

from avq import cpu, parallel
from avq.apply.code_files import KIND, MOST_BYTES, CodeFile, write_codes
from avq.apply.code_shards import CODES, FORMAT, Layout, read
from avq.apply.npz import read_arrays
from avq.apply.tokenizer import Codes, Tokenizer
from avq.data import shard_work
from avq.data.dataset import ImageSet, require_few
from avq.data.pipeline import Batch, eval_batches
from avq.data.settings import Data
from avq.data.shard_folder import JSON, Shard, ShardFolder, fingerprint, shards_of
from avq.data.shard_work import Callback, ShardWork
from avq.data.sources.prepared import SPLITS
from avq.data.sources.squares import RandomSquares
from avq.data.split import OLDER, Splits, open_splits
from avq.errors import InputError
from avq.json_files import read_json
from avq.models.vqvae import VQVAE
from avq.pixels import to_float
from avq.workers import Worker

IMAGES_PER_SHARD = 4096  # a multiple of GROUP
# Images that a device encodes at a time, as many as `Tokenizer` does unless told otherwise. Images
# are grouped by their place in a shard, and a device's program knows nothing of the others, so that
# codes do not depend on the number of devices, not even by rounding.
GROUP = 8
BATCHES_AHEAD = 2  # given to the devices before the codes of the first are waited for
SUFFIX = ".npz"
SQUARES = 8192  # of training images that are augmented


def tokenize(
    tokenizer: Tokenizer,
    path: str,
    target: Path,
    *,
    mesh: Mesh | None = None,
    max_rejected: float | None = None,
    worker: Worker | None = None,
    finish: bool = False,
    on_total: Callback = lambda total: None,
    on_kept: Callback = lambda done: None,
    on_images: Callback = lambda done: None,
) -> JSON:
    """Writes the codes of a data set, or resumes writing them, and returns the `codes.json`.

    An image is encoded as evaluation sees it: its centre square, at the model's size. Of training
    images that training takes random squares of, 8,192 such squares are. The split is drawn as the
    model's run did. See `avq.apply.code_shards.read` for the way back. Several workers and a last
    call with `finish` end in the same bytes as one call.

    Args:
        tokenizer: the model.
        path: of the images, as `data.path` takes it.
        target: folder to fill, created if missing; or a `.npz` file, see `avq.apply.code_files`.
        mesh: devices that share a batch; None for all.
        max_rejected: share of unreadable images of a split above which to stop; None for that of
            the model's run.
        worker: encodes its share of the shards alone, and returns their `rejected`; None all.
        finish: whether workers have filled the target, and the rest is to be written.
        on_total: called with the number of images before the first is read.
        on_kept: called with the number of images of a shard that an earlier call has finished.
        on_images: called with the number of images encoded since the call before.

    Raises:
        InputError: for a path that cannot be opened or has too many unreadable images, a target
            that holds something else or is being filled by another process, shards that workers
            have not written, or a full disk.
    """
    data = replace(tokenizer.trained.data, path=path)
    if max_rejected is not None:
        data = replace(data, max_rejected=max_rejected)
    splits = open_splits(data, older=tokenizer.trained.dataset.get("split_rule", OLDER) == OLDER)
    if splits.train.augment:
        squares = RandomSquares(splits.train, data.image_size, SQUARES)
        splits = replace(splits, train=squares)
    grids = tokenizer.grids(data.image_size, data.image_size)
    layout = Layout(grids, tokenizer.codebook_sizes)
    about = _settings(tokenizer.digest, layout, data, splits)
    encoder = _Encoder(tokenizer, mesh or parallel.make_mesh())
    is_file = target.suffix == SUFFIX
    shards = target.with_name(f"{target.name}.shards") if is_file else target
    if not (is_file and target.exists()):
        rows = {split: range(len(getattr(splits, split))) for split in SPLITS}
        description = shard_work.fill(
            ShardFolder(shards, CODES, about),
            shards_of(rows, IMAGES_PER_SHARD),
            _CodeShards(splits, data, about, layout, encoder, on_images),
            worker=worker,
            finish=finish,
            on_total=on_total,
            on_kept=on_kept,
        )
        if worker or not is_file:
            return description
        _write_file(target, shards, description, tokenizer)
    description = _about_file(target, about)
    if read_json(shards / CODES) == description:
        shutil.rmtree(shards)
    return description


def _settings(digest: str, layout: Layout, data: Data, splits: Splits) -> JSON:
    """What decides the codes, for `codes.json`."""
    return {
        "format": FORMAT,
        "model": digest,
        "image_size": data.image_size,
        "grids": [list(grid) for grid in layout.grids],
        "codebook_sizes": list(layout.codebook_sizes),
        "types": [kind.name for kind in layout.types],
        "split_rule": splits.rule,
        "white_level": data.white_level,
        "source": {split: fingerprint(getattr(splits, split)) for split in SPLITS},
    }


class _CodeShards(ShardWork):
    """Shards of codes, and what `codes.json` says of them."""

    def __init__(
        self,
        splits: Splits,
        data: Data,
        about: JSON,
        layout: Layout,
        encoder: "_Encoder",
        on_images: Callback,
    ) -> None:
        self.sources = {split: getattr(splits, split) for split in SPLITS}
        self._sets = {
            split: ImageSet(source, data.max_rejected, data.channels)
            for split, source in self.sources.items()
        }
        self._about = about | {"unused": splits.unused}
        self._layout, self._encoder, self._on_images = layout, encoder, on_images

    def write(self, folder: ShardFolder, shard: Shard) -> JSON:
        """Writes a shard and returns its note: number of its images, and those rejected."""
        images, encoder = self._sets[shard.split], self._encoder
        rows = range(shard.rows[0], shard.rows[-1] + 1)
        batches = eval_batches(
            images, image_size=encoder.image_size, batch_size=encoder.batch_size, rows=rows
        )
        rejected, written, row = [], 0, rows.start
        with folder.writer(shard) as write:
            for codes, mask in encoder.encoded(batches):
                done = min(len(mask), rows.stop - row)
                for place in range(done):
                    name = images.source.name(row + place)
                    if mask[place]:
                        write(self._layout.record(name, tuple(grid[place] for grid in codes)))
                        written += 1
                    else:
                        rejected.append({"name": name, "reason": images.rejected[name]})
                row += done
                self._on_images(done)
        return {"images": written, "rejected": rejected}

    def check(self, shard: Shard, note: JSON) -> None:
        """Counts unreadable images of a split, and refuses too many."""
        images = self._sets[shard.split]
        images.rejected |= {entry["name"]: entry["reason"] for entry in note["rejected"]}
        require_few(images.rejected, len(images), images.max_rejected)

    def describe(self, folder: ShardFolder, finished: Iterable[tuple[Shard, JSON]]) -> JSON:
        """Content of `codes.json`."""
        shards: list[JSON] = []
        rejected: list[JSON] = []
        counts = dict.fromkeys(SPLITS, 0)
        for shard, note in finished:
            counts[shard.split] += note["images"]
            shards.append({"file": shard.file, "split": shard.split, "images": note["images"]})
            rejected += note["rejected"]
        if not any(counts.values()):
            raise InputError("there is no readable image.")
        return self._about | {"counts": counts, "shards": shards, "rejected": rejected}


class _Encoder:
    """Encodes batches of squares, `GROUP` of them on each device."""

    def __init__(self, tokenizer: Tokenizer, mesh: Mesh) -> None:
        trained: Any = tokenizer.trained
        self.image_size, self.batch_size = tokenizer.image_size, GROUP * mesh.size
        self._mesh = mesh
        self._variables = jax.device_put(trained.variables, parallel.replicated(mesh))

        def encode(variables: Any, pixels: Any) -> Any:
            return trained.model.apply(variables, pixels, method=VQVAE.encode)

        options = cpu.compiler_options("inference")
        self._encode = parallel.map_rows(encode, mesh, options)

    def encoded(
        self, batches: Iterable[tuple[Batch, Bool[np.ndarray, "b"]]]
    ) -> Iterator[tuple[tuple[Int[np.ndarray, "b _h _w"], ...], Bool[np.ndarray, "b"]]]:
        """Codes of each batch, and its mask."""
        begun: deque[tuple[Any, Any]] = deque()
        for batch, mask in batches:
            # In numpy, as a tokenizer does it, so that both see the same bits.
            sharded = parallel.shard_batch(to_float(batch["image"]), self._mesh)
            begun.append((self._encode(self._variables, sharded), mask))
            if len(begun) > BATCHES_AHEAD:
                codes, mask = begun.popleft()
                yield jax.device_get(codes), mask
        for codes, mask in begun:
            yield jax.device_get(codes), mask


def _write_file(file: Path, shards: Path, description: JSON, tokenizer: Tokenizer) -> None:
    """Writes the codes of a folder as one file."""
    found, by_image = CodeFile([], [], []), []
    size = tokenizer.image_size, tokenizer.image_size
    for split in SPLITS:
        for name, codes in read(shards, split):
            found.names.append(name)
            found.sizes.append(size)
            found.codes.append(_as_codes(codes))
            by_image.append(split)
    more = {"splits": np.array(by_image, np.str_), "about": np.str_(json.dumps(description))}
    write_codes(file, found, tokenizer, more)


def _as_codes(grids: tuple[Any, ...]) -> Codes:
    return tuple(grid.astype(np.int32) for grid in grids)


def _about_file(file: Path, about: JSON) -> JSON:
    """Description of a finished file.

    Raises:
        InputError: for one that holds something else.
    """
    try:
        description: JSON = json.loads(str(read_arrays(file, KIND, MOST_BYTES)["about"]))
        changed = [key for key in about if description.get(key) != about[key]]
    except (InputError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{str(file)!r} is no file of avq tokenize. Give another.") from error
    if changed:
        raise InputError(
            f"{str(file)!r} holds codes of another {' and '.join(changed)}. Give another file."
        )
    return description
