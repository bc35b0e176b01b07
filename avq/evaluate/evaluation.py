"""Evaluating a model on a set of images, and pictures of its reconstructions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, UInt8
from ml_collections import ConfigDict

from avq import cpu, parallel
from avq.checkpoint import TrainedModel
from avq.data.dataset import Readable, Summary
from avq.data.pipeline import eval_batches
from avq.data.sources import open_source, open_splits
from avq.errors import InputError
from avq.evaluate.metrics import Sums, batch_sums, merge, summarize
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8


class Evaluator:
    """Runs a model over images; compiled once, used for any parameters.

    Attributes:
        model: with codebooks of `model.codes` entries.
        mesh: devices that a batch is split over.
    """

    def __init__(self, model: VQVAE, mesh: Mesh) -> None:
        self.model, self.mesh = model, mesh
        # Every process gets the results whole.
        whole, options = parallel.replicated(mesh), cpu.compiler_options()
        compiled = partial(jax.jit, out_shardings=whole, compiler_options=options)
        self._step = compiled(self._sums)
        self._reconstruct = compiled(self._pixels)

    def _sums(self, variables: Any, images: Array, mask: Array) -> Sums:
        targets = to_float(images)
        out: Any = self.model.apply(variables, targets)
        codes = tuple(level.codes for level in out.levels)
        return batch_sums(out.images, targets, codes, mask, k=self.model.codes)

    def _pixels(self, variables: Any, images: Array) -> Array:
        out: Any = self.model.apply(variables, to_float(images))
        return to_uint8(out.images)

    def evaluate(
        self,
        variables: Any,
        images: Readable,
        summary: Summary,
        batch_size: int,
        each: Callable[[int], object] = lambda done: None,
    ) -> dict[str, Any]:
        """Measures over every readable image, each counted once; keys as in `avq eval --json`.

        Args:
            variables: of the model.
            images: to reconstruct.
            summary: of the training images: their size, and what errors are divided by.
            batch_size: a multiple of the number of devices.
            each: called after every batch with the number of this process's images in it.

        Raises:
            InputError: when no image is readable.
        """
        total: Sums | None = None
        size, host, hosts = summary.size, jax.process_index(), jax.process_count()
        for batch, mask in eval_batches(
            images, image_size=size, batch_size=batch_size, host=host, hosts=hosts
        ):
            placed = parallel.place((batch, mask), self.mesh)
            sums = jax.device_get(self._step(variables, *placed))
            total = sums if total is None else merge(total, sums)
            each(int(mask.sum()))
        if total is None or not total.n:
            raise InputError(f"none of the {len(images)} images is readable. Check data.path.")
        measures = summarize(
            total, pixel_std=summary.pixel_std, pixel_variance=summary.pixel_variance
        )
        return measures | {"bits_per_pixel": self.model.bits_per_pixel(size)}

    def grid(
        self, variables: Any, images: UInt8[np.ndarray, "n h w 3"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Images in a row, above their reconstructions."""
        made = jax.device_get(self._reconstruct(variables, images))
        return np.concatenate([np.concatenate(list(row), axis=1) for row in (images, made)])


def samples(images: Readable, image_size: int, n: int = 8) -> UInt8[np.ndarray, "m h w 3"]:
    """Up to `n` readable images, evenly spaced over the set, as centre squares."""
    rows = np.unique(np.linspace(0, len(images) - 1, n).round().astype(int))
    rng = np.random.default_rng(0)
    return np.stack([images.square(int(row), image_size, rng) for row in rows])


def open_test_images(trained: TrainedModel, path: str, split: str) -> tuple[Readable, Summary]:
    """Images to evaluate a run on, and what is known of those it was trained on.

    Args:
        trained: the run.
        path: of images, or empty for the run's own data.
        split: 'train', 'test', or 'all' images of a path.

    Raises:
        InputError: for a path without images, or another split.
    """
    if split not in ("train", "test", "all"):
        raise InputError(f"--split: {split!r} is not one of train, test, all.")
    summary = Summary(**trained.dataset)
    data = ConfigDict(trained.config["data"])
    if split == "all":
        if not path:
            raise InputError("--split all goes with --data. Give a folder or .zip of images.")
        return Readable(open_source(path), data.max_rejected), summary
    data.path = path or data.path
    return Readable(open_splits(data)[split], data.max_rejected), summary
