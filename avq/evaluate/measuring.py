"""Measuring runs on the same images, by everything that was asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avq import parallel
from avq.data.dataset import ImageSet, Summary
from avq.evaluate.evaluation import Evaluator, Part, trained_on
from avq.evaluate.metrics import Metric, meanings
from avq.evaluate.network_metrics import NetworkMetric, NetworkOutputs, Outputs, with_networks
from avq.evaluate.results import Results, intervals
from avq.evaluate.sources import by_source
from avq.trained import TrainedModel


@dataclass(frozen=True)
class Measured:
    """A run's measures.

    Attributes:
        results: of the evaluation.
        values: as `avq eval --json` writes them.
        meanings: one line on each of them.
    """

    results: Results
    values: dict[str, Any]
    meanings: dict[str, str]


class Measuring:
    """What runs are measured on, and by which metrics beside `METRICS`.

    Attributes:
        images, summary, data, split, metrics, networks: as given.
        mesh: all devices.
        batch_size: images at a time, a multiple of the number of devices.
        passes: times that every image is gone through for a run.

    Args:
        images: to measure on.
        summary: of the training images.
        data: where the images come from, a path.
        split: which of them they are.
        batch_size: rounded up to a multiple of the number of devices.
        metrics: by name.
        networks: metrics by frozen networks.
    """

    def __init__(
        self,
        images: ImageSet,
        summary: Summary,
        data: str,
        split: str,
        batch_size: int,
        metrics: Mapping[str, Metric[Any]],
        networks: Sequence[NetworkMetric],
    ) -> None:
        self.mesh = parallel.make_mesh()
        self.batch_size = -(-batch_size // self.mesh.size) * self.mesh.size
        self.passes = 2 if networks else 1
        self.images, self.summary, self.data, self.split = images, summary, data, split
        self.metrics, self.networks = metrics, networks

    def of(self, trained: TrainedModel) -> "RunMeasuring":
        """How a run is measured, compiled once."""
        return RunMeasuring(self, trained)

    def measure(
        self, trained: TrainedModel, on_images: Callable[[int], object] = lambda done: None
    ) -> Measured:
        """Measures a run.

        Args:
            trained: the run.
            on_images: called after every batch with the number of this process's images in it.
        """
        run = self.of(trained)
        return run.measured(run.parts(on_images), run.outputs(on_images))


class RunMeasuring:
    """Measuring one run: parts of the images, and what they add up to.

    Args:
        measuring: on what, and by which metrics.
        trained: the run.
    """

    def __init__(self, measuring: Measuring, trained: TrainedModel) -> None:
        self._all, self._trained = measuring, trained
        self._evaluator = Evaluator(
            trained.model, measuring.mesh, measuring.metrics, trained.degradation
        )
        self._networks = NetworkOutputs(measuring.networks, self._evaluator)
        self._about = trained.variables, measuring.images, measuring.summary

    def parts(
        self, on_images: Callable[[int], object], rows: range | None = None
    ) -> Iterator[Part]:
        """Measures images without networks, shard by shard; arguments as for `Evaluator.parts`."""
        return self._evaluator.parts(*self._about, self._all.batch_size, on_images, rows)

    def outputs(
        self, on_images: Callable[[int], object], rows: range | None = None
    ) -> Iterator[Outputs]:
        """Outputs of the networks for the same images; nothing where there are no networks."""
        if not self._all.networks:
            return iter(())
        return self._networks.parts(*self._about, self._all.batch_size, on_images, rows)

    def like(self) -> Part:
        """A part of one image, with shapes in place of arrays."""
        return self._evaluator.like(*self._about)

    def measured(self, parts: Iterable[Part], outputs: Iterable[Outputs]) -> Measured:
        """The run's measures, of what `parts` and `outputs` yield, in order."""
        networks, degradation = self._all.networks, self._trained.degradation
        results = self._evaluator.results(*self._about, parts)
        lines = meanings(self._evaluator.metrics)
        if networks:
            results = with_networks(results, networks, outputs)
        for metric in networks:
            lines |= metric.meaning
        values = self._values(results)
        if degradation:
            values["crop"] += f"; the model's input is degraded: {degradation}"
        return Measured(results, values, lines)

    def _values(self, results: Results) -> dict[str, Any]:
        """Measures, how sure they are, and what was measured."""
        measuring, own = self._all, self._trained.config["data"]["path"]
        images, summary = measuring.images, measuring.summary
        return results.measures | {
            "interval": intervals(results.per_image),
            "by_source": by_source(results, images),
            "image_size": summary.size,
            "crop": "centre square",
            "range": "[-1, 1]; ssim and ms_ssim [0, 1]",
            "trained_on": trained_on(images, summary, measuring.data, own),
            "step": self._trained.step,
            "split": measuring.split,
            "data": measuring.data,
            "weights": {metric.network: metric.digest for metric in measuring.networks},
        }
