"""Configs: finding and loading a file, checking it against its settings, keeping it with a run."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from avq.errors import InputError
from avq.json_files import read_json, write_json
from avq.settings import require_valid, settings_of

CONFIG, DATASET = "config.json", "dataset.json"  # in a run's folder
# Version of config.json; 1 had no such number, other names for three keys, and no task.
FORMAT = 2
RENAMED_SINCE_1 = {
    "codes": "codebook_size",
    "latent_dim": "code_dim",
    "codebook_update": "quantizer",
}
PACKAGED = Path(__file__).parent / "configs"

Sections = Mapping[str, tuple[type, ...]]


def load(arguments: Sequence[str]) -> ConfigDict:
    """The config that command-line arguments ask for: `--config=FILE[:VARIANT]` and any
    `--config.KEY=VALUE`. Its values have the types of the file's, but are not checked further.

    Raises:
        InputError: for a missing file, an unknown variant or key (with the nearest known one), or a
            value of the wrong type.
    """
    specs = [a.split("=", 1)[1] for a in arguments if a.startswith("--config=")]
    spec = specs[-1] if specs else ""
    file, colon, variant = spec.partition(":")
    flag = f"--config={_find(file)}{colon}{variant}"
    try:
        plain, _ = _parse([flag])
        for argument in arguments:
            _require_known(argument, plain)
        others = [a for a in arguments if not a.startswith("--config=")]
        config, rest = _parse([flag, *others])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"config {spec}: {_reason(error)}") from error
    except (SyntaxError, ImportError, NameError) as error:
        raise InputError(f"config {spec}: is no Python file of a config ({error}).") from error
    if rest:
        raise InputError(f"unknown argument {rest[0]!r}. {_advice(rest[0], plain)}")
    return config


def joined(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Arguments with `--flag value` as `--flag=value`, for some flags and for `--config.KEY`."""
    result: list[str] = []
    for argument in arguments:
        before = result[-1] if result else ""
        takes = before in flags or (before.startswith("--config.") and "=" not in before)
        if takes and not argument.startswith("--"):
            result[-1] = f"{before}={argument}"
        else:
            result.append(argument)
    return result


def as_flags(arguments: Sequence[str]) -> list[str]:
    """Arguments of a verb as `load` takes them: without `--config`, the first plain one is the
    config.
    """
    flags = joined(arguments, ("--config",))
    plain = [i for i, flag in enumerate(flags) if not flag.startswith("-")]
    if plain and not any(flag.startswith("--config=") for flag in flags):
        flags[plain[0]] = f"--config={flags[plain[0]]}"
    return flags


def _find(file: str) -> Path:
    """The config's file: the path itself, else that name in `configs/` of the working folder, else
    among the configs that come with avq.
    """
    path = Path(file)
    if file and path.is_file():
        return path
    if file and path.parent in (Path("."), Path("configs")):
        name = path.name if path.suffix == ".py" else f"{path.name}.py"
        for folder in (Path("configs"), PACKAGED):
            if (folder / name).is_file():
                return folder / name
    names = {p.name for folder in (Path("configs"), PACKAGED) for p in folder.glob("*.py")}
    there = " ".join(f"configs/{name}" for name in sorted(names - {"common.py"}))
    problem = f"no such file: {file!r}" if file else "not given as --config=FILE"
    raise InputError(f"--config: {problem}. Give one of: {there}.")


def _parse(arguments: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """The config that arguments ask for, and the arguments that are not about it."""
    argv = ["avq", *arguments]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=argv)
    rest = values(argv, known_only=True)
    return values.config, rest[1:]


def _require_known(argument: str, config: ConfigDict) -> None:
    key = argument.split("=", 1)[0].removeprefix("--config.")
    if argument.startswith("--config.") and key not in flatten(config.to_dict()):
        raise InputError(f"config has no value {key!r} to set. {_advice(argument, config)}")


def _advice(argument: str, config: ConfigDict) -> str:
    """The key that was probably meant, else those of the same section."""
    key = argument.split("=", 1)[0].lstrip("-").split(".", 1)[-1]
    known = list(flatten(config.to_dict()))
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.8):
        return f"Did you mean --config.{near[0]}?"
    beside = [name for name in known if name.startswith(key.rsplit(".", 1)[0] + ".")]
    return f"Set values by --config.KEY=VALUE; there are: {', '.join(beside or sorted(config))}."


def _reason(error: Exception) -> str:
    """The message in one line; ml_collections puts a whole traceback into some."""
    text = str(error.args[0] if error.args else error).strip()
    if "Traceback" in text:
        text = text.splitlines()[-1].split(": ", 1)[-1]
    return " ".join(text.split())


def require_valid_config(config: Mapping[str, Any], sections: Sections) -> None:
    """Refuses a config that is not one of the settings of its sections; '' is the top level.

    Raises:
        InputError: naming the section or key, and what it has to be.
    """
    for name in sections:
        if name and not isinstance(config.get(name), Mapping):
            keys = ", ".join(f"{name}.{key}" for key in settings_of(*sections[name]))
            raise InputError(
                f"config lacks the section {name!r} ({keys}). Take it from avq.configs.common."
            )
    top = {key: value for key, value in config.items() if key not in sections}
    for name, kinds in sections.items():
        require_valid(name, config[name] if name else top, settings_of(*kinds))


def completed(config: Mapping[str, Any], sections: Sections) -> dict[str, Any]:
    """A run's config with the keys that are newer than the run, at the values that give what it did
    then.
    """
    config = dict(config)
    for name, kinds in sections.items():
        older = {key: s.of_older_run() for key, s in settings_of(*kinds).items()}
        if not name:
            config = {**older, **config}
        elif isinstance(section := config.get(name, {}), Mapping):  # else it is refused later
            config[name] = {**older, **section}
    return config


def write_config(run: Path, config: Mapping[str, Any]) -> None:
    """Writes a run's `config.json`."""
    write_json(run / CONFIG, {"format": FORMAT, **config})


def read_config(run: Path) -> dict[str, Any] | None:
    """A run's config by today's names; None where the folder has no `config.json`.

    Raises:
        InputError: for a file that holds no config, or one of a newer avq.
    """
    saved = read_json(run / CONFIG)
    if saved is None:
        return None
    path = str(run / CONFIG)
    if not isinstance(saved, dict) or not isinstance(saved.get("model", {}), dict):
        raise InputError(f"{path!r} holds no config. Put back a copy.")
    number = saved.pop("format", 1)
    if number not in (1, FORMAT):
        raise InputError(f"{path!r} has format {number}, newer than this avq. Update avq.")
    if number == 1 and "model" in saved:
        saved["model"] = {RENAMED_SINCE_1.get(key, key): v for key, v in saved["model"].items()}
    return saved


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as one of dotted keys; tuples become lists, as JSON has them."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def require_same(
    saved: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str], run: str
) -> None:
    """Refuses to resume a run under another config.

    Args:
        saved: config of the run.
        now: config it is to be resumed with.
        free: dotted keys that may differ.
        run: its folder.

    Raises:
        InputError: naming the keys that differ, with both values.
    """
    before, after = flatten(saved), flatten(now)
    differing = [
        f"{key} ({before.get(key)!r} there, {after.get(key)!r} now)"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in free
    ]
    if differing:
        raise InputError(
            f"{run} holds a run with another config: {'; '.join(differing)}. "
            "Give the same values to resume it, or another --workdir."
        )


def free_on_resume(sections: Sections) -> list[str]:
    """Dotted keys of the settings that may differ when a run is resumed."""
    return [
        f"{name}.{key}" if name else key
        for name, kinds in sections.items()
        for key, setting in settings_of(*kinds).items()
        if setting.free
    ]


@contextmanager
def input_errors(name: str) -> Iterator[None]:
    """Turns a `ValueError` about a value of the config into an `InputError`."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{name}: {_reason(error)}.") from error
