"""Measuring runs on the same images, by everything that was asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avq import parallel
from avq.data.dataset import ImageSet, Summary
from avq.evaluate.evaluation import Evaluator, trained_on
from avq.evaluate.metrics import Metric, meanings
from avq.evaluate.network_metrics import NetworkMetric, with_networks
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
        images: to measure on.
        summary: of the training images.
        mesh: all devices.
        batch_size: images at a time, a multiple of the number of devices.
        passes: times that every image is gone through for a run.

    Args:
        images, summary: as above.
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
        self.images, self.summary, self._where = images, summary, (data, split)
        self._metrics, self._networks = metrics, networks

    def measure(
        self, trained: TrainedModel, on_images: Callable[[int], object] = lambda done: None
    ) -> Measured:
        """Measures a run.

        Args:
            trained: the run.
            on_images: called after every batch with the number of this process's images in it.
        """
        degradation = trained.degradation
        evaluator = Evaluator(trained.model, self.mesh, self._metrics, degradation)
        about = self.images, self.summary, self.batch_size
        results = evaluator.evaluate(trained.variables, *about, on_images)
        lines = meanings(evaluator.metrics)
        if self._networks:
            results = with_networks(
                results, self._networks, evaluator, trained.variables, *about, on_images
            )
        for metric in self._networks:
            lines |= metric.meaning
        values = self._values(results, trained)
        if degradation:
            values["crop"] += f"; the model's input is degraded: {degradation}"
        return Measured(results, values, lines)

    def _values(self, results: Results, trained: TrainedModel) -> dict[str, Any]:
        """Measures, how sure they are, and what was measured."""
        (data, split), own = self._where, trained.config["data"]["path"]
        return results.measures | {
            "interval": intervals(results.per_image),
            "by_source": by_source(results, self.images),
            "image_size": self.summary.size,
            "crop": "centre square",
            "range": "[-1, 1]; ssim and ms_ssim [0, 1]",
            "trained_on": trained_on(self.images, self.summary, data, own),
            "step": trained.step,
            "split": split,
            "data": data,
            "weights": {metric.network: metric.digest for metric in self._networks},
        }
