"""Results by source, for sets that are a mixture."""

import re
from collections import Counter
from collections.abc import Sequence
from os.path import commonpath

import numpy as np
from jaxtyping import Bool

from avq.data.dataset import ImageSet
from avq.evaluate.results import Results

MOST_SOURCES, LEAST_IMAGES = 20, 5
OTHER = "other"
MOST_OTHERS = 0.1  # of all images
# An image's file, or a row of a file that may be one of several.
NUMBERED = re.compile(r"(?P<source>.*?)[\W_]*\d*(-of-\d+)?\.\w+(#\d+)?")


def by_source(results: Results, images: ImageSet) -> dict[str, dict[str, int | float]]:
    """Number of images `n` and means of `per_image` of each source; empty where the names tell no
    sources, see `sources`.

    Args:
        results: of an evaluation.
        images: that it measured.
    """
    names = [images.source.name(int(row)) for row in results.rows]
    return {
        source: {"n": int(chosen.sum())}
        | {key: float(np.mean(v[chosen], dtype=np.float64)) for key, v in results.per_image.items()}
        for source, chosen in sources(names).items()
    }


def sources(names: Sequence[str]) -> dict[str, Bool[np.ndarray, "n"]]:
    """Which images come from which source, by their names.

    A source is a folder, at the first depth where folders differ; where there are none, what stands
    before the number in a file's name. There are sources where 2 to 20 of them have 5 images or
    more. The images of smaller ones come last, as 'other', and are at most a tenth of all.

    Example:
        >>> files = [f"test/{kind}_{i:03}.jpg" for kind in ("cat", "dog") for i in range(5)]
        >>> {source: int(chosen.sum()) for source, chosen in sources(files).items()}
        {'cat': 5, 'dog': 5}
    """
    if not names:
        return {}
    folders = [name.rpartition("/")[0] for name in names]
    shared = commonpath(folders) if all(folders) else ""
    below = [folder[len(shared) :].strip("/").partition("/")[0] for folder in folders]
    return _groups(below) or _groups([_before_number(name) for name in names])


def _before_number(name: str) -> str:
    match = NUMBERED.fullmatch(name.rpartition("/")[2])
    return match["source"] if match else ""


def _groups(labels: Sequence[str]) -> dict[str, Bool[np.ndarray, "n"]]:
    """Rows by label, in alphabetical order; empty where they are no sources."""
    counts = Counter(labels)
    large = sorted(label for label, count in counts.items() if label and count >= LEAST_IMAGES)
    others = len(labels) - sum(counts[label] for label in large)
    if not 2 <= len(large) <= MOST_SOURCES or others > MOST_OTHERS * len(labels):
        return {}
    array = np.array(labels)
    groups = {label: array == label for label in large}
    return groups | ({OTHER: ~np.isin(array, large)} if others else {})
