"""Runs measured on the same images, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avq.errors import InputError
from avq.evaluate.results import Difference, Results, paired


@dataclass(frozen=True)
class Comparison:
    """Figures of several runs on the same images.

    Attributes:
        names: of the runs; the others are compared with the first.
        values: of each run, as `avq eval --json` writes them.
        differences: of each run but the first: its means over images minus the first's, by key.
    """

    names: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]
    differences: tuple[dict[str, Difference], ...]


def compare_runs(
    names: Sequence[str], results: Sequence[Results], values: Sequence[Mapping[str, Any]]
) -> Comparison:
    """Compares runs by each image.

    Raises:
        InputError: where they were measured on different images.
    """
    first, *others = results
    return Comparison(
        tuple(names),
        tuple(values),
        tuple(
            {k: paired(other, first, k) for k in first.per_image if k in other.per_image}
            for other in others
        ),
    )


def require_same_data(
    names: Sequence[str], datasets: Sequence[Mapping[str, Any]], own: bool
) -> None:
    """Refuses to compare runs whose images differ.

    Args:
        names: of the runs.
        datasets: content of their `dataset.json`, and `channels` of their images; each is compared
            with the first.
        own: whether they are measured on their own images; else these may differ, but not in size
            and channels.

    Raises:
        InputError: naming a run and how its data differ.
    """
    first = names[0]
    for name, dataset in zip(names, datasets, strict=True):
        sizes, hashes = (
            [each.get(key) for each in (datasets[0], dataset)] for key in ("size", "name_hashes")
        )
        if sizes[0] != sizes[1]:
            raise InputError(
                f"--compare: images of {name} are {sizes[1]} pixels wide, those of {first} "
                f"{sizes[0]}. Compare runs of one data.image_size."
            )
        channels = [each.get("channels") for each in (datasets[0], dataset)]
        if channels[0] != channels[1]:
            raise InputError(
                f"--compare: images of {name} have {channels[1]} channels, those of {first} "
                f"{channels[0]}. Compare runs of one data.channels."
            )
        if own and hashes[0] != hashes[1]:
            raise InputError(
                f"--compare: {name} was trained and tested on other images than {first}. Give "
                "--data to measure both on the same."
            )
