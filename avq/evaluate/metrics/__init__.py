"""Metrics of an evaluation, one file each.

To add one, write a subclass of `Metric` in a file of its own and add one line to `METRICS`. Its
values then appear in `avq eval`, in its JSON and in the report. The same holds for a metric that
other code adds to `METRICS` before an `Evaluator` is built.
"""

from typing import Any

from avq.evaluate.metrics.base import About, ImageMean, Mean, Metric, Value, merge
from avq.evaluate.metrics.bits import BitsPerPixel
from avq.evaluate.metrics.code_use import CodeUse
from avq.evaluate.metrics.mae import MeanAbsoluteError
from avq.evaluate.metrics.psnr import PeakSignalToNoiseRatio
from avq.evaluate.metrics.ssim import StructuralSimilarity

__all__ = ["METRICS", "About", "ImageMean", "Mean", "Metric", "Value", "meanings", "merge"]

# In the order in which their values are printed.
METRICS: dict[str, Metric[Any]] = {
    "mae": MeanAbsoluteError(),
    "psnr": PeakSignalToNoiseRatio(),
    "ssim": StructuralSimilarity(),
    "code_use": CodeUse(),
    "bits": BitsPerPixel(),
}
# Keys beside those of the metrics.
EVALUATION = {
    "n": "images measured, each once",
    "trained_on": "how many of them the run was trained on, by name; None where it is not known",
    "step": "training steps of the checkpoint",
    "split": "which images",
    "data": "where they come from",
}


def meanings() -> dict[str, str]:
    """One line on every key of `avq eval --json`."""
    of_metrics = (metric.meaning for metric in METRICS.values())
    return EVALUATION | {key: line for meaning in of_metrics for key, line in meaning.items()}
