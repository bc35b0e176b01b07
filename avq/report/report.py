"""What a page and a model card are made from."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from avq import __version__
from avq.evaluate.comparison import Comparison
from avq.report.training import Record


@dataclass(frozen=True)
class Report:
    """Evaluation of a run, and where its model comes from.

    Attributes:
        title: name of the run.
        values: as `avq eval --json` writes them.
        meanings: one line on each of them, such as `avq.evaluate.metrics.meanings()`.
        config: of the run.
        records: of its training, see `avq.report.training.read_records`.
        environment: versions, device and date of the evaluation, see `environment`.
        comparison: with other runs.
    """

    title: str
    values: Mapping[str, Any]
    meanings: Mapping[str, str]
    config: Mapping[str, Any]
    records: Sequence[Record]
    environment: Mapping[str, str]
    comparison: Comparison | None = None


def environment(device: str) -> dict[str, str]:
    """Versions and date of an evaluation on a device, by name."""
    libraries = {name: version(name) for name in ("jax", "flax")}
    return {
        "avq": __version__,
        **libraries,
        "Python": platform.python_version(),
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
    }
