"""Values of an evaluation as `avq eval --json` writes them."""

from typing import Any

from avq.data.dataset import ImageSet, Summary
from avq.evaluate.evaluation import trained_on
from avq.evaluate.results import Results, intervals
from avq.evaluate.sources import by_source
from avq.trained import TrainedModel


def values_of(
    results: Results,
    trained: TrainedModel,
    images: ImageSet,
    summary: Summary,
    data: str,
    split: str,
) -> dict[str, Any]:
    """Measures, how sure they are, and what was measured.

    Args:
        results: of the evaluation.
        trained: the run.
        images: that were measured.
        summary: of the training images.
        data: where the images come from, a path.
        split: which of them were measured.
    """
    return results.measures | {
        "interval": intervals(results.per_image),
        "by_source": by_source(results, images),
        "image_size": summary.size,
        "crop": "centre square",
        "range": "[-1, 1]; ssim and ms_ssim [0, 1]",
        "trained_on": trained_on(images, summary, data, trained.config["data"]["path"]),
        "step": trained.step,
        "split": split,
        "data": data,
    }
