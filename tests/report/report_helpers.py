"""A report with values of its own, and names that try to break out of the page."""

from typing import Any

import numpy as np

from avq.evaluate.ablation import Ablation, Level, Quality
from avq.evaluate.comparison import Comparison
from avq.evaluate.generation import MEANINGS as OF_PRIOR
from avq.evaluate.generation import Generated
from avq.evaluate.inside import PLACES, Example, Inside
from avq.evaluate.results import Difference
from avq.report.report import Report

HOSTILE = "</pre></table><script>alert(1)</script><img src=//x>"
VALUES: dict[str, Any] = {
    "n": 4,
    "mae": 0.123456,
    "psnr": 21.5,
    "ssim": 0.75,
    "bits_per_pixel": 0.625,
    "dots": 0.25,
    "dots_of_inputs": 0.03,
    "active_codes": [7, 3, 2],
    "usage": [0.5, 0.25, 0.125],
    "decoded_levels": 1,
    "interval": {"psnr": [20.25, 22.75], "mae": [0.1, 0.2]},
    "by_source": {f"cats {HOSTILE}": {"n": 3, "psnr": 22.125}, "dogs": {"n": 1, "psnr": 19.5}},
    "image_size": 16,
    "crop": "centre square",
    "trained_on": 0,
    "step": 200,
    "split": "test",
    "data": f"faces & {HOSTILE}",
    "<i>sharp</i>": HOSTILE,
}
MEANINGS = {"n": "images measured", "psnr": "signal & noise", "<i>sharp</i>": f"<b> {HOSTILE}"}
RECORDS: list[dict[str, Any]] = [
    {"step": 100, "train/loss": 2.0, "train/perplexity": [5.0, 2.0], "train/images_per_second": 4},
    {"step": 100, "eval/psnr": 20.0},
    {"step": 200, "train/loss": 1.0, "train/perplexity": [6.0, 3.0], "train/images_per_second": 8},
    {"step": 200, "eval/psnr": 21.5},
]


def made_report(levels=2, values=VALUES, **changes) -> Report:
    """A report of a model with so many levels."""
    cut = {k: v[:levels] if isinstance(v, list) else v for k, v in values.items()}
    config = {
        "data": {"batch_size": 8, "path": HOSTILE},
        "model": {"levels": levels},
        "note": HOSTILE,
    }
    options: dict[str, Any] = {
        "title": f"a run {HOSTILE}",
        "values": cut,
        "meanings": MEANINGS,
        "config": config,
        "records": RECORDS,
        "environment": {"avq": "0.1", "device": f"a {HOSTILE}"},
        "comparison": None,
    }
    return Report(**options | changes)


def made_inside(levels=2, attention=True) -> Inside:
    """Random pictures, codes and attention of a model with so many levels."""
    rng = np.random.default_rng(0)
    grids = [8 >> level for level in range(levels)]

    def pixels():
        return rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)

    def weights(side):
        return rng.uniform(size=(len(PLACES), side, side)).astype(np.float32)

    examples = tuple(
        Example(
            group,
            f"{group} {HOSTILE}.png",
            pixels(),
            pixels(),
            tuple(rng.integers(0, 8, (side, side)) for side in grids),
            {"psnr": 20.0, "ssim": 0.5},
            tuple(weights(side) for side in grids) if attention else (),
        )
        for group in ("best", "median", "worst")
        for _ in range(2)
    )
    levels_lost = [Level(i == 0, Quality(11.5, 0.5), Quality(13.25, 0.4)) for i in range(levels)]
    codes = tuple(rng.integers(0, 8, (5, side, side)) for side in grids)
    return Inside(
        examples,
        Ablation(5, Quality(21.25, 0.125), tuple(levels_lost), codes),
        tuple(rng.uniform(size=50) for _ in grids) if attention else (),
        (8,) * levels,
    )


def made_comparison() -> Comparison:
    """Two runs, of which the second is better."""
    other = VALUES | {"psnr": 22.5}
    differences = {"psnr": Difference(1.0, 0.5, 1.5)}
    return Comparison(("ah", f"h {HOSTILE}"), (VALUES, other), (differences,))


PRIOR_VALUES: dict[str, Any] = {
    "step": 200,
    "n": 4,
    "exact": True,
    "bits_per_code": 6.5,
    "train_bits_per_code": 6.25,
    "bits_per_code_by_level": [6.75, 5.5, 5.0],
    "train_bits_per_code_by_level": [6.5, 5.25, 5.125],
    "bits_per_dim": 0.17,
    "frequency_bits_per_code": 7.75,
    "sample_to_train": 30.0,
    "test_to_train": 40.0,
    "nearest_ratio": 0.75,
    "train_compared": 8000,
    "interval": {"bits_per_code": [6.25, 6.75]},
}


def made_prior_report(levels=2, **changes) -> Report:
    """A report of a prior over so many levels."""
    config = {"tokenizer": HOSTILE, "data": {"batch_size": 8}, "note": HOSTILE}
    return made_report(levels, PRIOR_VALUES | changes, meanings=OF_PRIOR, config=config)


def made_generated(levels=2) -> Generated:
    """Random samples and nearest images of a prior over so many levels."""
    rng = np.random.default_rng(0)

    def pixels(count):
        return rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)

    by_level = tuple(pixels(4) for _ in range(levels))
    nearest = tuple(pixels(2) for _ in range(8))
    return Generated({}, pixels(64), pixels(4), by_level, nearest, rng.uniform(size=(8, 2)))
