"""What a page and a model card are made from."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from avq import __version__
from avq.evaluate.comparison import Comparison
from avq.evaluate.measuring import Measured
from avq.parallel import device_in_words
from avq.report.training import Record, read_records
from avq.trained import TrainedModel


@dataclass(frozen=True)
class Report:
    """Evaluation of a run, and where its model comes from.

    Attributes:
        title: name of the run.
        values: as `avq eval --json` writes them.
        meanings: one line on each of them, such as `avq.evaluate.metrics.meanings()`.
        config: of the run.
        records: of its training, see `avq.report.training.read_records`.
        environment: versions, device and date of the evaluation, see `environment`, and SHA-256 of
            the weights of frozen networks.
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


def make_report(
    run: Path,
    trained: TrainedModel,
    measured: Measured,
    mesh: Mesh,
    comparison: Comparison | None = None,
) -> Report:
    """The report of a run that was measured on this machine.

    Args:
        run: its folder.
        trained: its model.
        measured: its measures.
        mesh: devices that they were computed on.
        comparison: with other runs.
    """
    weights = {f"weights of {name}": text for name, text in measured.values["weights"].items()}
    return Report(
        str(run),
        measured.values,
        measured.meanings,
        trained.config,
        read_records(run, trained.step),
        environment(device_in_words(mesh)) | weights,
        comparison,
    )
