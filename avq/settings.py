"""Settings: fields of a dataclass that a config may set, each with its meaning and range.

A section of a config is the fields of one dataclass (or Flax module), so default, meaning and range
of a value stand in one place, beside the code that reads it.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from avq.errors import InputError

T = TypeVar("T")
MAX_INT32 = 2**31 - 1  # steps are counted in int32
MAX_UINT32 = 2**32 - 1  # seeds


@dataclass(frozen=True)
class Setting:
    """Meaning, default and range of a field that a config may set.

    Attributes:
        meaning: one line for `--help` and for pages.
        factory: returns the value where a config sets none; its type is the type of the setting.
        low, high: bounds, both included, of a number or of every number in a tuple.
        choices: allowed values; None where any is.
        before: value of runs that are older than the setting; None where it is the default.
        free: whether it may differ when a run is resumed.
    """

    meaning: str
    factory: Callable[[], Any]
    low: int | float
    high: int | float
    choices: Collection[Any] | None
    before: Any
    free: bool

    @property
    def default(self) -> Any:
        """Value where a config sets none."""
        return self.factory()

    def of_older_run(self) -> Any:
        """Value in effect in runs that are older than the setting."""
        return self.default if self.before is None else self.before

    def range(self) -> str:
        """Type and bounds in words: 'a whole number, at least 1'."""
        if self.choices is not None:
            return "one of " + ", ".join(str(c) for c in self.choices)
        return ", ".join(filter(None, [_type_in_words(self.default), self._bounds()]))

    def error(self, value: Any) -> str | None:
        """Why a value is refused; None for one that is allowed."""
        if not _is_like(value, self.default):
            return f"has to be {_type_in_words(self.default)}"
        if self.choices is not None and value not in self.choices:
            return f"is not {self.range()}"
        if not all(self.low <= number <= self.high for number in _numbers(value)):
            return f"is out of range: has to be {self._bounds()}"
        return None

    def _bounds(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"between {_in_words(self.low)} and {_in_words(self.high)}"
        if self.low == 0:
            return "not negative"
        return f"at least {_in_words(self.low)}" if math.isfinite(self.low) else ""


def setting(
    default: Any,
    meaning: str,
    *,
    low: int | float = -math.inf,
    high: int | float = math.inf,
    choices: Collection[Any] | None = None,
    before: Any = None,
    free: bool = False,
) -> Any:
    """A dataclass field that a config may set.

    Args:
        default: a value, or a function that returns one where it depends on what is registered.
        meaning, low, high, choices, before, free: as for `Setting`.

    Example:
        >>> @dataclass
        ... class Train:
        ...     steps: int = setting(1000, "training steps", low=0)
        >>> settings_of(Train)["steps"].range()
        'a whole number, not negative'
    """
    factory = default if callable(default) else lambda: default
    metadata = {"setting": Setting(meaning, factory, low, high, choices, before, free)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def settings_of(*kinds: Any) -> dict[str, Setting]:
    """Settings of one or more dataclasses, by name. A name that several share has one meaning: the
    first one's.
    """
    settings: dict[str, Setting] = {}
    for kind in kinds:
        for f in fields(kind):
            if "setting" in f.metadata and f.name not in settings:
                settings[f.name] = f.metadata["setting"]
    return settings


def construct(kind: type[T], values: Mapping[str, Any], **others: Any) -> T:
    """An object of a dataclass from a section of a config.

    Args:
        kind: a dataclass.
        values: of the section; those that are no settings of `kind` are of other objects, and
            missing ones are what older runs did. Lists, as JSON has them, become tuples.
        others: fields that no config sets.
    """
    chosen = {
        name: _as_field(values.get(name, setting.of_older_run()), setting.default)
        for name, setting in settings_of(kind).items()
    }
    return kind(**chosen, **others)


def require_valid(section: str, values: Mapping[str, Any], settings: Mapping[str, Setting]) -> None:
    """Refuses a section whose keys or values are not those of its settings.

    Raises:
        InputError: naming key and value, and what it has to be.
    """
    prefix = f"{section}." if section else ""
    for name, value in values.items():
        if name not in settings:
            raise InputError(f"config has no value {prefix + name!r}. Remove it.")
        if problem := settings[name].error(value):
            raise InputError(f"{prefix}{name}={_shown(value)} {problem}.")
    for name in settings:
        if name not in values:
            raise InputError(f"config lacks {prefix + name!r}: {settings[name].meaning}.")


def _as_field(value: Any, default: Any) -> Any:
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value has the type of a default; a whole number is a number, and lists are
    tuples.
    """
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value)
    if isinstance(default, tuple):
        several = isinstance(value, list | tuple) and len(value) > 0
        return several and all(_is_like(v, default[0]) for v in value)
    if isinstance(default, Mapping):
        return isinstance(value, Mapping) and all(_is_like(v, 0.0) for v in value.values())
    return isinstance(value, type(default))


def _numbers(value: Any) -> Iterable[int | float]:
    if isinstance(value, Mapping):
        return value.values()
    values = value if isinstance(value, list | tuple) else [value]
    return [v for v in values if isinstance(v, int | float)]


def _in_words(bound: int | float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _type_in_words(default: Any) -> str:
    if isinstance(default, tuple):
        return f"a tuple of one or more {'whole ' * isinstance(default[0], int)}numbers"
    words = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
    return words.get(type(default), "numbers by name")


def _shown(value: Any) -> str:
    return " ".join(str(list(value) if isinstance(value, tuple) else value).split())
