"""Metrics of an evaluation, one file each.

To add one, write a subclass of `Metric` in a file of its own and add one line to `METRICS`. Its
values then appear in `avq eval`, in its JSON and in the report. The same holds for a metric that
other code adds to `METRICS` before an `Evaluator` is built.
"""

from collections.abc import Mapping
from typing import Any

from avq.evaluate.metrics.base import About, ImageMean, Mean, Metric, Value, merge
from avq.evaluate.metrics.bits import BitsPerPixel
from avq.evaluate.metrics.code_use import CodeUse
from avq.evaluate.metrics.dots import Dots
from avq.evaluate.metrics.mae import MeanAbsoluteError
from avq.evaluate.metrics.psnr import PeakSignalToNoiseRatio, PooledPeakSignalToNoiseRatio
from avq.evaluate.metrics.ssim import MultiScaleStructuralSimilarity, StructuralSimilarity
from avq.evaluate.metrics.symmetry import Symmetry

__all__ = ["METRICS", "About", "ImageMean", "Mean", "Metric", "Value", "meanings", "merge"]

# In the order in which their values are printed.
METRICS: dict[str, Metric[Any]] = {
    "mae": MeanAbsoluteError(),
    "psnr": PeakSignalToNoiseRatio(),
    "psnr_pooled": PooledPeakSignalToNoiseRatio(),
    "ssim": StructuralSimilarity(),
    "ms_ssim": MultiScaleStructuralSimilarity(),
    "symmetry": Symmetry(),
    "dots": Dots(),
    "code_use": CodeUse(),
    "bits": BitsPerPixel(),
}
# Keys beside those of the metrics.
EVALUATION = {
    "n": "images measured, each once",
    "image_size": "side of the squares that were measured, pixels",
    "crop": "which part of an image that is, resized to that side",
    "range": "of the pixels, of 256 levels, in the measures",
    "interval": "95 % bootstrap interval over images of each mean over images",
    "by_source": "means over the images of each source, where names or folders tell sources apart",
    "weights": "SHA-256 of the weight files of each frozen network",
    "baselines": "patch k-means and image files at the model's bits; model_psnr is of the same n "
    "images, above counts those with no file so small",
    "trained_on": "how many of them the run was trained on, by name; None where it is not known",
    "step": "training steps of the checkpoint",
    "split": "which images",
    "data": "where they come from",
}


def meanings(metrics: Mapping[str, Metric[Any]] = METRICS) -> dict[str, str]:
    """One line on every key of `avq eval --json`, for the metrics that were measured."""
    of_metrics = (metric.meaning for metric in metrics.values())
    return EVALUATION | {key: line for meaning in of_metrics for key, line in meaning.items()}
