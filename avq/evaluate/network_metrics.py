"""Metrics by frozen networks: Frechet and kernel distance of Inception features, and LPIPS."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from avq import cpu, parallel
from avq.data.dataset import ImageSet, Summary
from avq.data.pipeline import Batch
from avq.errors import InputError
from avq.evaluate.distances import Moments, frechet_distance, kernel_distances, require_enough
from avq.evaluate.evaluation import Evaluator
from avq.evaluate.metrics import Value
from avq.evaluate.results import Results
from avq.networks.inception import FEATURES, inception_features, inception_variables
from avq.networks.lpips import LPIPS, NETWORKS, SMALLEST, lpips_variables
from avq.networks.weights import Variables, read_weights
from avq.pixels import as_channels, to_float, to_uint8

Outputs: TypeAlias = tuple[Float[np.ndarray, "n ..."], ...]  # for some images, by metric
SAMPLE = 10_000  # images whose features are kept for the kernel distance


class NetworkMetric(ABC):
    """A measure of reconstructions by a frozen network.

    Attributes:
        network: what it is called in an evaluation's `weights`.
        digest: SHA-256 of its weight file.
        variables: of the network.
        meaning: one line on each key of `summary`.
    """

    network: str
    digest: str
    variables: Variables
    meaning: Mapping[str, str]

    @abstractmethod
    def start(self) -> None:
        """Forgets the images that were added."""

    @abstractmethod
    def outputs(
        self,
        variables: Variables,
        images: UInt8[Array, "b h w 3"],
        targets: UInt8[Array, "b h w 3"],
    ) -> Float[Array, "b ..."]:
        """Outputs of the network for each image and its target, both as RGB. Runs inside
        `jax.jit`.
        """

    @abstractmethod
    def add(self, outputs: Float[np.ndarray, "b ..."]) -> None:
        """Adds one or more images by their outputs, in the order of the set. Runs on the host."""

    @abstractmethod
    def summary(self) -> dict[str, Value]:
        """Values over the images added, by key."""

    def per_image(self) -> dict[str, Float[np.ndarray, "n"]]:
        """Numbers of the images added, by the key whose value is their mean."""
        return {}


class InceptionDistances(NetworkMetric):
    """Distances between the Inception features of originals and of reconstructions.

    Args:
        file: weights of `InceptionV3`.
        images: number of images in the set.
        frechet: whether the Frechet distance is asked for.

    Raises:
        InputError: when the file holds other weights, or the Frechet distance needs more images.
    """

    network = "inception"
    meaning: Mapping[str, str] = {
        "fid": "Frechet distance of Inception features of reconstructions from those of originals",
        "kid": "their kernel distance, mean over 100 subsets of 1,000 images, or all when fewer",
        "kid_std": "its standard deviation over the subsets",
    }

    def __init__(self, file: Path, images: int, frechet: bool = True) -> None:
        if frechet:
            require_enough(images, FEATURES)
        weights = read_weights(file)
        self.digest, self.variables = weights.digest, inception_variables(weights)
        self._frechet = frechet
        # A random sample, known before the first batch.
        rows = np.random.default_rng(0).permutation(images)
        self._kept = np.isin(np.arange(images), rows[:SAMPLE])
        self.start()

    def start(self) -> None:
        self._moments = [Moments.none(FEATURES)] * 2  # of reconstructions, of originals
        self._samples: list[np.ndarray] = []
        self._done = 0

    def outputs(
        self,
        variables: Variables,
        images: UInt8[Array, "b h w 3"],
        targets: UInt8[Array, "b h w 3"],
    ) -> Float[Array, "b 2 d"]:
        """Features of images and targets."""
        # Image beside target: the network is compiled once, and a device keeps its part.
        pairs = jnp.stack([images, targets], axis=1).reshape(-1, *images.shape[1:])
        return inception_features(variables, pairs).reshape(len(images), 2, -1)

    def add(self, outputs: Float[np.ndarray, "b 2 d"]) -> None:
        if self._frechet:
            sides = zip(self._moments, outputs.swapaxes(0, 1), strict=True)
            self._moments = [moments.merge(Moments.of(side)) for moments, side in sides]
        self._samples.append(outputs[self._kept[self._done : self._done + len(outputs)]])
        self._done += len(outputs)

    def summary(self) -> dict[str, Value]:
        values: dict[str, Value] = {}
        if self._frechet:
            values["fid"] = frechet_distance(*self._moments)
        images, targets = np.concatenate(self._samples).swapaxes(0, 1)
        distances = kernel_distances(images, targets)
        values["kid"] = float(distances.mean())
        if len(distances) > 1:
            values["kid_std"] = float(distances.std())
        return values


class PerceptualDistance(NetworkMetric):
    """Mean over images of LPIPS.

    Args:
        files: weights of the network and of the heads, in one or several files.
        image_size: side of the images, pixels.

    Raises:
        InputError: when the files hold other weights, or images are too small for the network.
    """

    def __init__(self, files: Sequence[Path], image_size: int) -> None:
        weights = read_weights(*files)
        self.digest = weights.digest
        self._kind, self.variables = lpips_variables(weights)
        if image_size < SMALLEST[self._kind]:
            raise InputError(
                f"LPIPS of {NETWORKS[self._kind]} needs images of {SMALLEST[self._kind]} pixels, "
                f"and these have {image_size}. Leave out --lpips."
            )
        self.network = f"lpips_{self._kind}"
        self.meaning = {self.network: f"LPIPS 0.1 by {NETWORKS[self._kind]}, mean over images"}
        self.start()

    def start(self) -> None:
        self._distances: list[np.ndarray] = []

    def outputs(
        self,
        variables: Variables,
        images: UInt8[Array, "b h w 3"],
        targets: UInt8[Array, "b h w 3"],
    ) -> Float[Array, "b"]:
        """Distance of each image from its target."""
        distances = LPIPS(self._kind).apply(variables, to_float(images), to_float(targets))
        return jnp.asarray(distances)

    def add(self, outputs: Float[np.ndarray, "b"]) -> None:
        self._distances.append(outputs)

    def summary(self) -> dict[str, Value]:
        (distances,) = self.per_image().values()
        return {self.network: float(distances.mean(dtype=np.float64))}

    def per_image(self) -> dict[str, Float[np.ndarray, "n"]]:
        return {self.network: np.concatenate(self._distances)}


def network_metrics(
    inception: Path | None, lpips: Sequence[Path], frechet: bool, images: int, image_size: int
) -> list[NetworkMetric]:
    """The metrics whose weight files are given.

    Args:
        inception, lpips: files for `InceptionDistances` and `PerceptualDistance`.
        frechet: whether the Frechet distance is asked for.
        images: number of images in the set.
        image_size: their side, pixels.

    Raises:
        InputError: as these classes do.
    """
    metrics: list[NetworkMetric] = []
    if inception:
        metrics.append(InceptionDistances(inception, images, frechet))
    if lpips:
        metrics.append(PerceptualDistance(lpips, image_size))
    return metrics


class NetworkOutputs:
    """Outputs of frozen networks for images and their reconstructions, in a pass of its own over
    the images: the networks take far longer than to reconstruct the images again, and results
    without them stay as fast. Compiled once, used for any images.

    Args:
        metrics: whose networks they are.
        evaluator: of the model.
    """

    def __init__(self, metrics: Sequence[NetworkMetric], evaluator: Evaluator) -> None:
        self._metrics, self._evaluator = metrics, evaluator
        # With the options of `Evaluator`, or the reconstructions would differ by rounding.
        whole, options = parallel.replicated(evaluator.mesh), cpu.compiler_options()
        self._compiled = jax.jit(self._outputs, out_shardings=whole, compiler_options=options)
        self._networks: Any = None

    def _outputs(
        self,
        variables: Variables,
        networks: list[Variables],
        batch: Mapping[str, UInt8[Array, "b h w c"]],
        mask: Bool[Array, "b"],
    ) -> tuple[Any, tuple[Any, ...]]:
        """The mask, and outputs of each metric, which every process has whole."""
        targets = batch.get("target", batch["image"])
        made = to_uint8(self._evaluator.model.apply(variables, to_float(batch["image"])).images)
        pairs = zip(self._metrics, networks, strict=True)
        rgb = as_channels(made, 3), as_channels(targets, 3)
        return mask, tuple(metric.outputs(network, *rgb) for metric, network in pairs)

    def parts(
        self,
        variables: Variables,
        images: ImageSet,
        summary: Summary,
        batch_size: int,
        on_images: Callable[[int], object] = lambda done: None,
        rows: range | None = None,
    ) -> Iterator[Outputs]:
        """Yields outputs for the readable images of a shard, by metric; arguments as for
        `Evaluator.parts`.
        """
        mesh = self._evaluator.mesh
        if self._networks is None:
            variables_of = [metric.variables for metric in self._metrics]
            self._networks = jax.device_put(variables_of, parallel.replicated(mesh))

        def outputs(_: int, batch: Batch, mask: Bool[np.ndarray, "b"]) -> Outputs:
            sharded = parallel.shard_batch((batch, mask), mesh)
            counted, rows = jax.device_get(self._compiled(variables, self._networks, *sharded))
            on_images(int(mask.sum()))
            return tuple(of_metric[counted] for of_metric in rows)

        for batches in self._evaluator.shards(images, summary, batch_size, rows):
            of_batches = [outputs(*batch) for batch in batches]
            yield tuple(map(np.concatenate, zip(*of_batches, strict=True)))


def with_networks(
    results: Results, metrics: Sequence[NetworkMetric], parts: Iterable[Outputs]
) -> Results:
    """Results with those of frozen networks.

    Args:
        results: on the same images.
        metrics: started anew.
        parts: outputs for the images in order, see `NetworkOutputs.parts`.
    """
    for metric in metrics:
        metric.start()
    for part in parts:
        for metric, outputs in zip(metrics, part, strict=True):
            if len(outputs):
                metric.add(outputs)
    measures, per_image = dict(results.measures), dict(results.per_image)
    for metric in metrics:
        measures |= metric.summary()
        per_image |= metric.per_image()
    return replace(results, measures=measures, per_image=per_image)
