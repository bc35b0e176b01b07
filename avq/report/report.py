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
from avq.errors import InputError
from avq.evaluate.comparison import Comparison
from avq.evaluate.measuring import Measured
from avq.evaluate.metrics import meanings
from avq.json_files import read_json
from avq.parallel import device_in_words
from avq.report.training import Record, read_records
from avq.storage.copies import local
from avq.storage.objects import at
from avq.trained import TrainedModel

# Keys that a card reads, beside the measures.
_NEEDED = {
    *("n", "image_size", "bits_per_pixel", "step", "split", "data", "crop", "trained_on"),
    "interval",
}


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


def saved_report(run: Path, trained: TrainedModel, file: Path) -> Report:
    """The report of a run from what `avq eval --json` wrote, without versions and device.

    Args:
        run: its folder.
        trained: its model.
        file: of the figures.

    Raises:
        InputError: for a file that is missing, damaged or of another model.
    """
    values = read_json(file)
    if values is None:
        raise InputError(f"there is no file {str(file)!r}. Write it with avq eval --json.")
    if not isinstance(values, dict) or not values.keys() >= _NEEDED:
        lacking = ", ".join(sorted(_NEEDED - set(values if isinstance(values, dict) else ())))
        raise InputError(f"{str(file)!r} holds no figures of avq eval: it lacks {lacking}.")
    size = trained.config["data"]["image_size"]
    own = {
        "step": trained.step,
        "image_size": size,
        "bits_per_pixel": trained.model.bits_per_pixel(size),
    }
    for name, value in own.items():
        if values[name] != value:
            raise InputError(
                f"{str(file)!r} is of another model: {name} {values[name]}, not {value}. "
                "Evaluate this one with avq eval --json."
            )
    records = read_records(local(run), trained.step)
    return Report(str(at(run)), values, meanings(), trained.config, records, {})


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
        str(at(run)),
        measured.values,
        measured.meanings,
        trained.config,
        read_records(local(run), trained.step),
        environment(device_in_words(mesh)) | weights,
        comparison,
    )
