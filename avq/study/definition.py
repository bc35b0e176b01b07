"""What a study compares, and the file that says it."""

import hashlib
import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_collections import ConfigDict

from avq import tasks
from avq.config import as_flags, flatten
from avq.errors import InputError


@dataclass(frozen=True)
class Study:
    """Systems that are trained and measured alike.

    Attributes:
        systems: arguments of training by name of the system: a config, then `--config.KEY=VALUE`.
        baseline: system that the others are compared with.
        data: path of images by name.
        seeds: number of seeds, counted from 0; of all systems, or by name, where the
            others have one.
        steps, images: length of a run, one of the two; None for both takes that of the configs.
        seconds: in their place, length of a run on this machine: each system does as many steps as
            its measured step time allows.
        evaluations: times that each run is evaluated, evenly spaced, the last at its end.
    """

    systems: Mapping[str, Sequence[str]]
    baseline: str
    data: Mapping[str, str] = field(default_factory=lambda: {"photographs": "photographs"})
    seeds: int | Mapping[str, int] = 1
    steps: int | None = None
    images: int | None = None
    seconds: float | None = None
    evaluations: int = 4


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        system, data: their names in the study.
        seed: of the run.
        arguments: of training, but for the folder.
        steps, batch_size: of the run.
        digest: eight letters that change with any setting that differs from its default, but for
            the path of the data.
    """

    system: str
    data: str
    seed: int
    arguments: tuple[str, ...]
    steps: int
    batch_size: int
    digest: str

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        words = "".join(c if c.isalnum() else " " for c in f"{self.system} {self.data}")
        return "-".join([*words.split(), f"seed{self.seed}", self.digest])


def read_study(file: Path, data: Mapping[str, str]) -> Study:
    """The study of a Python file, which defines `STUDY`.

    Args:
        file: to execute.
        data: paths that replace those of the file, by name.

    Raises:
        InputError: for a file without a study, or one that contradicts itself.
    """
    if not file.is_file():
        raise InputError(f"{str(file)!r} is no file. Give a Python file that defines STUDY.")
    try:
        study = runpy.run_path(str(file)).get("STUDY")
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{str(file)!r}: {type(error).__name__}: {reason}.") from error
    if not isinstance(study, Study):
        raise InputError(f"{str(file)!r} defines no STUDY = avq.study.Study(...).")
    for name in data:
        if name not in study.data:
            known = ", ".join(study.data)
            raise InputError(f"--data {name}=...: the study has no such data, but: {known}.")
    study = Study(**{**vars(study), "data": {**study.data, **data}})
    _require_sound(study, file)
    return study


def _require_sound(study: Study, file: Path) -> None:
    if study.baseline not in study.systems:
        known = ", ".join(study.systems)
        raise InputError(f"{str(file)!r}: baseline {study.baseline!r} is not one of {known}.")
    if not isinstance(study.seeds, int):
        for name in study.seeds:
            if name not in study.systems:
                raise InputError(f"{str(file)!r}: seeds of {name!r}, which is no system.")
    if sum(length is not None for length in (study.steps, study.images, study.seconds)) > 1:
        raise InputError(f"{str(file)!r}: give one of steps, images and seconds.")
    for system, arguments in study.systems.items():
        load(arguments, system)


def jobs_of(
    study: Study, seconds_a_step: Callable[[str, Sequence[str]], float] | None = None
) -> list[Job]:
    """All runs, every system's first seed first, so that an unfinished study compares all.

    Args:
        study: what to do.
        seconds_a_step: of a system and its arguments; for a study whose runs last some seconds.
    """
    seeds = {name: _seeds(study, name) for name in study.systems}
    lengths = {
        system: _lengths(study, system, arguments, seconds_a_step)
        for system, arguments in study.systems.items()
    }
    jobs = []
    for seed in range(max(seeds.values())):
        for data, path in study.data.items():
            for system, arguments in study.systems.items():
                if seed < seeds[system]:
                    own = (f"--config.data.path={path}", f"--config.seed={seed}")
                    whole = tuple(as_flags([*arguments, *lengths[system], *own]))
                    jobs.append(_job(system, data, seed, whole))
    return jobs


def _seeds(study: Study, system: str) -> int:
    return study.seeds if isinstance(study.seeds, int) else study.seeds.get(system, 1)


def _lengths(
    study: Study,
    system: str,
    arguments: Sequence[str],
    seconds_a_step: Callable[[str, Sequence[str]], float] | None,
) -> list[str]:
    """Settings of how long a system's runs are and how often they are evaluated."""
    config = load(arguments, system)
    steps: int = config.train.steps if study.steps is None else study.steps
    if study.images is not None:
        steps = study.images // config.data.batch_size
    elif study.seconds is not None and seconds_a_step is not None:
        steps = round(study.seconds / seconds_a_step(system, arguments))
    steps = max(1, steps)
    every = max(1, steps // study.evaluations)
    lengths = {"train.steps": steps, "train.eval_every": every, "checkpoint.keep": 1}
    return [f"--config.{key}={value}" for key, value in lengths.items()]


def _job(system: str, data: str, seed: int, arguments: tuple[str, ...]) -> Job:
    config = load(arguments, system)
    chosen, defaults = flatten(config.to_dict()), flatten(tasks.defaults(config.task).to_dict())
    # Without those at their defaults, so that a setting that a later version adds changes nothing.
    settings = {k: v for k, v in chosen.items() if k != "data.path" and v != defaults.get(k, 0)}
    text = json.dumps(settings, sort_keys=True, default=list)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Job(system, data, seed, arguments, config.train.steps, config.data.batch_size, digest)


def load(arguments: Sequence[str], system: str) -> ConfigDict:
    """The config of a system's arguments.

    Raises:
        InputError: naming the system.
    """
    try:
        loaded = tasks.load(as_flags(arguments))
        tasks.make_task(loaded)
    except InputError as error:
        raise InputError(f"system {system!r}: {error}") from error
    return loaded
