"""Evaluating a model on a set of images, and pictures of its reconstructions."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int64, UInt8, UInt32

from avq import cpu, parallel
from avq.data.channels import displayed
from avq.data.dataset import ImageSet, Summary, evenly, open_dataset, read_summary
from avq.data.names import from_text, hash_names
from avq.data.pipeline import Batch, eval_batches, in_shards
from avq.data.sources import open_source
from avq.data.sources.base import name_hashes
from avq.data.split import open_splits
from avq.data.views import CLEAN, Degradation
from avq.errors import InputError
from avq.evaluate.metrics import METRICS, About, ImageMean, Metric, Value, merge
from avq.evaluate.results import Results, fingerprint
from avq.pixels import to_float, to_uint8
from avq.trained import TrainedModel

Variables = Mapping[str, Any]


@runtime_checkable
class Model(Protocol):
    """Model that can be evaluated, such as `VQVAE`."""

    def apply(self, variables: Variables, /, *arguments: Array, method: str | None = None) -> Any:
        """A `Reconstruction` of images `[b, h, w, c]` in [-1, 1]; by the method 'codebooks', the
        vectors `[k, d]` of each level's codes, finest first.
        """

    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes by level, finest first."""

    def bits_per_pixel(self, image_size: int) -> float:
        """Bits of an image's codes that decoding reads, over its pixels."""

    def decoded_levels(self) -> int:
        """Number of levels, from the finest on, whose codes decoding reads."""


class Measured(NamedTuple):
    """What a batch adds to an evaluation; equal on all processes.

    Attributes:
        mask: false for padding and unreadable images.
        fingerprints: of the originals.
        per_image: numbers of each image by key, also where `mask` is false.
        sums: by metric, over the rows where `mask` is true.
    """

    mask: Bool[Any, "b"]
    fingerprints: UInt32[Any, "b"]
    per_image: dict[str, Float[Any, "b"]]
    sums: dict[str, Any]


class Part(NamedTuple):
    """What some images of a set add to its evaluation; equal on all processes.

    Attributes:
        rows: of those that are readable in their `ImageSet`, ascending.
        fingerprints: of the originals.
        per_image: numbers of each image by key.
        sums: by metric, in float64.
    """

    rows: Int64[np.ndarray, "n"]
    fingerprints: UInt32[np.ndarray, "n"]
    per_image: dict[str, Float[np.ndarray, "n"]]
    sums: dict[str, Any]


class Evaluator:
    """Runs a model and metrics over images; compiled once, used for any variables.

    Args:
        model: to evaluate.
        mesh: devices that a batch is split over.
        more: metrics beside those that are registered in `METRICS`, by name.
        degradation: of the model's input; reconstructions are compared with the images themselves.

    Attributes:
        model, mesh, degradation: as given.
        metrics: all that are measured, by name.
    """

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        more: Mapping[str, Metric[Any]] = MappingProxyType({}),
        degradation: Degradation = CLEAN,
    ) -> None:
        self.model, self.mesh, self.metrics = model, mesh, {**METRICS, **more}
        self.degradation = degradation
        # Replicated, so that every process gets the results whole.
        whole, options = parallel.replicated(mesh), cpu.compiler_options()
        compiled = partial(jax.jit, out_shardings=whole, compiler_options=options)
        self._measure = compiled(self._measured, static_argnames="about")
        self._reconstruct = compiled(self._pixels)
        self._codebooks = compiled(partial(model.apply, method="codebooks"))

    def _measured(
        self,
        variables: Variables,
        batch: Mapping[str, UInt8[Array, "b h w c"]],
        mask: Bool[Array, "b"],
        about: About,
    ) -> Measured:
        originals = batch.get("target", batch["image"])
        images, targets = to_float(batch["image"]), to_float(originals)
        out = self.model.apply(variables, images)
        codes = tuple(level.codes for level in out.levels)
        made = to_float(to_uint8(out.images))  # those that a tokenizer returns
        metrics = self.metrics.items()
        return Measured(
            mask,
            fingerprint(originals),
            {m.key: m.per_image(made, targets) for _, m in metrics if isinstance(m, ImageMean)},
            {name: metric.batch(made, targets, codes, mask, about) for name, metric in metrics},
        )

    def _about(self, summary: Summary) -> About:
        """Constants that are known before the first batch."""
        return About(
            summary.size,
            summary.pixel_std,
            summary.pixel_variance,
            self.model.codebook_sizes(),
            self.model.bits_per_pixel(summary.size),
            self.model.decoded_levels(),
        )

    def _pixels(
        self, variables: Variables, images: UInt8[Array, "b h w c"]
    ) -> UInt8[Array, "b h w c"]:
        made: Array = to_uint8(self.model.apply(variables, to_float(images)).images)
        return made

    def evaluate(
        self,
        variables: Variables,
        images: ImageSet,
        summary: Summary,
        batch_size: int,
        on_images: Callable[[int], object] = lambda done: None,
    ) -> Results:
        """Measures every readable image once.

        Args:
            variables: of the model.
            images: to reconstruct.
            summary: of the training images: their size, and the spread that errors are divided by.
            batch_size: a multiple of the number of devices.
            on_images: called after every batch with the number of this process's images in it.

        Returns:
            The same on all processes; values in the order of the metrics.

        Raises:
            InputError: when no image is readable.
        """
        parts = self.parts(variables, images, summary, batch_size, on_images)
        return self.results(variables, images, summary, parts)

    def parts(
        self,
        variables: Variables,
        images: ImageSet,
        summary: Summary,
        batch_size: int,
        on_images: Callable[[int], object] = lambda done: None,
        rows: range | None = None,
    ) -> Iterator[Part]:
        """Measures images shard by shard; arguments as for `evaluate`.

        Args:
            rows: of the images, from the first of a shard on, see `in_shards`; None for all.
        """
        about = self._about(summary)

        def part(first: int, batch: Batch, mask: Bool[np.ndarray, "b"]) -> Part:
            sharded = parallel.shard_batch((batch, mask), self.mesh)
            of = jax.device_get(self._measure(variables, *sharded, about=about))
            on_images(int(mask.sum()))
            return Part(
                first + np.flatnonzero(of.mask),
                of.fingerprints[of.mask],
                {key: numbers[of.mask] for key, numbers in of.per_image.items()},
                jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), of.sums),
            )

        for batches in self.shards(images, summary, batch_size, rows):
            yield _joined(part(*batch) for batch in batches)

    def shards(
        self, images: ImageSet, summary: Summary, batch_size: int, rows: range | None
    ) -> Iterator[Iterator[tuple[int, Batch, Bool[np.ndarray, "b"]]]]:
        """Yields batches of this process's share by shard, see `in_shards`; arguments as for
        `parts`.
        """
        rows = range(len(images)) if rows is None else rows
        batches = eval_batches(
            images,
            image_size=summary.size,
            batch_size=batch_size,
            degradation=self.degradation,
            host=jax.process_index(),
            hosts=jax.process_count(),
            rows=rows,
        )
        return in_shards(batches, rows, batch_size)

    def like(self, variables: Variables, images: ImageSet, summary: Summary) -> Part:
        """A part of one image, with shapes in place of arrays; arguments as for `evaluate`."""
        image = jax.ShapeDtypeStruct((1, summary.size, summary.size, images.channels), np.uint8)
        mask = jax.ShapeDtypeStruct((1,), np.bool_)
        measured = partial(self._measured, about=self._about(summary))
        of = jax.eval_shape(measured, variables, {"image": image}, mask)
        sums = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64), of.sums)
        rows: Any = jax.ShapeDtypeStruct((1,), np.int64)
        return Part(rows, of.fingerprints, of.per_image, sums)

    def results(
        self, variables: Variables, images: ImageSet, summary: Summary, parts: Iterable[Part]
    ) -> Results:
        """Results over all images, of the parts in order; arguments and errors as `evaluate`."""
        whole = _joined(parts) if len(images) else None
        if whole is None or not len(whole.rows):
            raise InputError(f"none of the {len(images)} images is readable. Check data.path.")
        codebooks = jax.device_get(self._codebooks(variables))
        about = replace(self._about(summary), codebooks=codebooks)
        measures: dict[str, Value] = {"n": len(whole.rows)}
        for name, metric in self.metrics.items():
            measures |= metric.summary(whole.sums[name], about)
        return Results(measures, whole.per_image, whole.rows, whole.fingerprints)

    def grid(
        self, variables: Variables, images: UInt8[np.ndarray, "n h w c"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Images in a row, above their reconstructions; degraded ones stand above both."""
        draws = (np.random.default_rng(number) for number in range(len(images)))
        seen = np.stack([self.degradation(*pair) for pair in zip(images, draws, strict=True)])
        reconstructed = jax.device_get(self._reconstruct(variables, seen))
        rows = [seen, images, reconstructed] if self.degradation else [images, reconstructed]
        return displayed(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


def _joined(parts: Iterable[Part]) -> Part:
    """The images of all parts, in order."""
    kept: list[Part] = []
    sums: Any = None
    for part in parts:
        sums = part.sums if sums is None else merge(sums, part.sums)
        kept.append(part._replace(sums={}))
    whole: Part = jax.tree.map(lambda *arrays: np.concatenate(arrays), *kept)
    return whole._replace(sums=sums)


def samples(images: ImageSet, image_size: int, n: int = 8) -> UInt8[np.ndarray, "m h w c"]:
    """Up to `n` readable images, evenly spaced over the set, as centre squares."""
    rng = np.random.default_rng(0)
    return np.stack([images.square(int(row), image_size, rng) for row in evenly(len(images), n)])


def open_test_images(trained: TrainedModel, path: str, split: str) -> tuple[ImageSet, Summary]:
    """Opens images to evaluate a run on, and the summary of those it was trained on.

    Args:
        trained: the run.
        path: of images, or empty for the run's own data.
        split: 'train', 'test', or 'all' images of a path.

    Raises:
        InputError: for a path without images, another split, or images of the run's own that
            changed since it began.
    """
    if split not in ("train", "test", "all"):
        raise InputError(f"--split: {split!r} is not one of train, test, all.")
    data = trained.data
    if not path:
        if split == "all":
            raise InputError("--split all goes with --data. Give a folder or .zip of images.")
        if not data.path:
            raise InputError("a model that avq export wrote has no images. Give --data PATH.")
        own = open_dataset(data, trained.dataset)
        return (own.train if split == "train" else own.test), own.summary
    summary = read_summary(trained.dataset, data.image_size)
    if split == "all":
        source = open_source(path, data.white_level, data.channels)
        return ImageSet(source, data.max_rejected, data.channels), summary
    splits = open_splits(replace(data, path=path))
    source = splits.train if split == "train" else splits.test
    if not len(source):
        raise InputError(f"{path!r} has no {split} images ({splits.rule}). Give --split all.")
    return ImageSet(source, data.max_rejected, data.channels), summary


def trained_on(images: ImageSet, summary: Summary, path: str, own_path: str) -> int | None:
    """Counts images that a run was trained on, by their names; None for a run that is so old that
    its summary holds none.

    Args:
        images: those measured; the unreadable ones among them are not counted.
        summary: of the run's images.
        path: of `images`.
        own_path: of the run's. Where one of the folders holds the other, names are compared as
            seen from this one.
    """
    if not summary.name_hashes:
        return None
    names = [images.source.name(row) for row in range(len(images))]
    here, own = os.path.realpath(path), os.path.realpath(own_path)
    hashes = name_hashes(images.source)
    if here != own and _is_inside(here, own):
        hashes = hash_names(os.path.relpath(os.path.join(here, name), own) for name in names)
    readable = np.array([name not in images.rejected for name in names])
    known = np.isin(hashes, from_text(summary.name_hashes["train"]))
    return int(np.sum(known & readable))


def _is_inside(one: str, other: str) -> bool:
    """Whether one of two folders, given by absolute paths, holds the other."""
    return (
        os.path.isdir(one)
        and os.path.isdir(other)
        and os.path.commonpath([one, other]) in (one, other)
    )
