"""Tasks: what can be trained, by the name that a config gives as `task`.

A new task is one file beside `autoencoder.py`, a subclass of `avq.train.task.Task`, and one line in
`TASKS`. One from outside avq is added by `TASKS["name"] = MyTask`.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from avq import config
from avq.errors import InputError
from avq.settings import settings_of
from avq.tasks.autoencoder import Autoencoder
from avq.tasks.prior import PriorTask
from avq.train.task import Task

TASKS: dict[str, type[Task]] = {"autoencoder": Autoencoder, "prior": PriorTask}


def load(arguments: Sequence[str]) -> ConfigDict:
    """The config that command-line arguments ask for, see `avq.config.load`, checked against the
    settings of its task.

    Raises:
        InputError: for what `avq.config.load` refuses, and for keys and values that are not
            settings of the task.
    """
    loaded = config.load(arguments)
    config.require_valid_config(loaded.to_dict(), task_of(loaded).sections())
    return loaded


def make_task(loaded: ConfigDict) -> Task:
    """The task that a config describes.

    Raises:
        InputError: for values that do not go together.
    """
    return task_of(loaded)(loaded.to_dict())


def task_of(loaded: ConfigDict) -> type[Task]:
    """The class of a config's task.

    Raises:
        InputError: for a name that is not in `TASKS`.
    """
    name = loaded.get("task", "autoencoder")
    if name not in TASKS:
        raise InputError(f"task={name!r} is not one of {', '.join(TASKS)}.")
    return TASKS[name]


def load_autoencoder(arguments: Sequence[str]) -> ConfigDict:
    """`load` for what is about autoencoders alone.

    Raises:
        InputError: for what `load` refuses, and for a config of another task.
    """
    loaded = load(arguments)
    if not issubclass(task_of(loaded), Autoencoder):
        raise InputError(f"the config is of a {loaded.task}. Give one of an autoencoder.")
    return loaded


def defaults(name: str) -> ConfigDict:
    """A config of a task with every setting at its default."""
    sections = {
        section: {key: setting.default for key, setting in settings_of(*kinds).items()}
        for section, kinds in TASKS[name].sections().items()
    }
    top = sections.pop("")
    return ConfigDict({**top, "task": name, **sections})


def settings_as_text(loaded: ConfigDict) -> str:
    """Every setting of a config with its value, range and meaning, for a terminal."""
    lines = []
    for section, kinds in task_of(loaded).sections().items():
        values = loaded[section] if section else loaded
        for key, setting in settings_of(*kinds).items():
            name = f"{section}.{key}" if section else key
            value = values[key]
            value = value.to_dict() if isinstance(value, ConfigDict) else value
            lines.append(f"  --config.{name}={value}")
            lines.append(f"      {setting.meaning} ({setting.range()})")
    return "\n".join(lines)
