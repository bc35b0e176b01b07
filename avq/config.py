"""Configs: loading a file of `configs/`, checking it, keeping it with a run."""

import difflib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from avq.errors import InputError

# What may differ when a run is resumed: how long it goes on, and what is written or used along the
# way.
FREE_ON_RESUME = (
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "checkpoint.",
    "optim.skip_nonfinite",
    "parallel.",
    "data.workers",
    "data.max_rejected",
)
# What numbers, alone or in tuples, may be. What depends on other values is refused elsewhere.
COUNTS = (
    "train.log_every",
    "train.eval_every",
    "checkpoint.every",
    "checkpoint.keep",
    "model.levels",
    "model.codes",
    "model.latent_dim",
    "model.base_filters",
    "model.aren_filters",
    "model.decoder_filters",
    "model.attention_dim",
    "discriminator.filters",
    "discriminator.strides",
)
NOT_NEGATIVE = (
    "train.steps",
    "checkpoint.keep_best",
    "data.workers",
    "model.encoder_blocks",
    "model.decoder_blocks",
    "model.commitment",
    "loss.adversarial_weight",
    "loss.adversarial_start",
    "optim.learning_rate",
    "optim.discriminator_learning_rate",
    "optim.warmup",
    "optim.skip_nonfinite",
)
SHARES = (
    "data.split",
    "data.min_crop",
    "data.max_rejected",
    "model.codebook_decay",
    "optim.b1",
    "optim.b2",
    "optim.ema_decay",
)


def load(arguments: Sequence[str]) -> ConfigDict:
    """The config that command-line arguments ask for: `--config=FILE[:VARIANT]` and any
    `--config.KEY=VALUE`.

    Raises:
        InputError: for a missing file, an unknown variant or key (with the nearest known one), or a
            value of the wrong type or out of its range.
    """
    spec = next((a.split("=", 1)[1] for a in arguments if a.startswith("--config=")), "")
    path = Path(spec.split(":", 1)[0])
    if not path.is_file():
        near = sorted(str(p) for p in Path("configs").glob("*vqvae.py"))
        problem = f"no such file: {str(path)!r}" if spec else "not given as --config=FILE"
        raise InputError(f"--config: {problem}. Give one of: {' '.join(near) or 'configs/*.py'}.")
    root = str(path.resolve().parent.parent)  # so that config files can import their common part
    sys.path.insert(0, root)
    try:
        plain, _ = _parse([f"--config={spec}"])
        for argument in arguments:
            _require_known(argument, plain)
        config, rest = _parse(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"config {spec}: {_reason(error)}") from error
    except (SyntaxError, ImportError, NameError) as error:
        raise InputError(f"config {spec}: is no Python file of a config ({error}).") from error
    finally:
        sys.path.remove(root)
    if rest:
        raise InputError(f"unknown argument {rest[0]!r}. {_advice(rest[0], plain)}")
    values = flatten(config.to_dict())
    _require_within(values, COUNTS, 1.0, math.inf, "at least 1")
    _require_within(values, NOT_NEGATIVE, 0.0, math.inf, "not negative")
    _require_within(values, SHARES, 0.0, 1.0, "between 0 and 1")
    return config


def _require_within(
    values: dict[str, Any], keys: Sequence[str], low: float, high: float, words: str
) -> None:
    for key in keys:
        value = values.get(key, low)  # a config of one's own may have fewer
        for number in value if isinstance(value, list) else [value]:
            if not low <= number <= high:
                raise InputError(f"{key}={value} is out of range: has to be {words}.")
            if isinstance(value, list) and not isinstance(number, int):
                raise InputError(f"{key}={value} has to be of whole numbers.")


def _parse(arguments: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """The config that arguments ask for, and those that say nothing of it."""
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


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as one of dotted keys; tuples become lists, as JSON has them."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def require_same(saved: dict[str, Any], now: dict[str, Any], run: str) -> None:
    """Refuses to resume a run under another config.

    Raises:
        InputError: naming the keys that differ, with both values.
    """
    before, after = flatten(saved), flatten(now)
    differing = [
        f"{key} ({before.get(key)!r} there, {after.get(key)!r} now)"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(FREE_ON_RESUME)
    ]
    if differing:
        raise InputError(
            f"{run} holds a run with another config: {'; '.join(differing)}. "
            "Give the same values to resume it, or another --workdir."
        )


@contextmanager
def refused_values(name: str) -> Iterator[None]:
    """Turns a `ValueError` about a value of the config into an `InputError`."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{name}: {_reason(error)}.") from error


def module_fields(section: dict[str, Any]) -> dict[str, Any]:
    """A config section as fields of a Flax module; lists, as JSON has them, become tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in section.items()
    }
