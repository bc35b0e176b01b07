"""Settings: types, ranges and defaults of a config's values, and objects constructed from them."""

import math
from dataclasses import dataclass, field

import flax.linen as nn
import pytest

from avq.errors import InputError
from avq.settings import construct, require_valid, setting, settings_of

CHOICES = {"x": 1, "y": 2}


@dataclass
class Example:
    count: int = setting(2, "a count", low=1)
    sides: tuple[int, ...] = setting((4, 4), "sides", low=1)
    share: float = setting(0.5, "a share", low=0, high=1)
    rate: float = setting(0.1, "a rate", low=0)
    flag: bool = setting(True, "a flag", before=False)
    kind: str = setting("x", "a kind", choices=CHOICES)
    words: str = setting("", "any words")
    weights: dict[str, float] = setting(lambda: {"a": 1.0}, "weights", low=0, free=True)
    other: int = field(default=7)  # no setting


SETTINGS = settings_of(Example)
NUMBER, WHOLE = "has to be a number", "has to be a whole number"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *(("count", value, None) for value in (1, 2, 10**9)),
        ("count", 0, "is out of range: has to be at least 1"),
        *(("count", value, WHOLE) for value in (1.5, True, "1", None, 1e20, (1,))),
        *(("sides", value, None) for value in ((1,), [4, 5])),
        ("sides", (4, 0), "is out of range: has to be at least 1"),
        *(
            ("sides", value, "has to be a tuple of one or more whole numbers")
            for value in (4, (4, 4.5), (True,), "44", None, ((4,),), ())
        ),
        *(("share", value, None) for value in (0, 0.0, 1, 1.0, 0.3)),
        *(
            ("share", value, "is out of range: has to be between 0 and 1")
            for value in (-1e-9, 1.001, 2)
        ),
        *(("share", value, NUMBER) for value in (math.nan, math.inf, -math.inf, True, "0.5", None)),
        ("rate", -0.1, "is out of range: has to be not negative"),
        ("rate", 0, None),
        ("rate", math.inf, NUMBER),
        *(("flag", value, None) for value in (True, False)),
        *(("flag", value, "has to be True or False") for value in (0, 1, "True", None)),
        ("kind", "y", None),
        ("kind", "z", "is not one of x, y"),
        ("kind", 1, "has to be text"),
        ("words", "anything", None),
        ("words", None, "has to be text"),
        ("weights", {"a": 1, "b": 0.5}, None),
        ("weights", {"a": -1.0}, "is out of range: has to be not negative"),
        ("weights", {"a": "1"}, "has to be numbers by name"),
        ("weights", 3, "has to be numbers by name"),
    ],
)
def test_value_is_allowed_or_refused_with_what_it_has_to_be(name, value, problem):
    assert SETTINGS[name].error(value) == problem


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("count", "a whole number, at least 1"),
        ("sides", "a tuple of one or more whole numbers, at least 1"),
        ("share", "a number, between 0 and 1"),
        ("rate", "a number, not negative"),
        ("flag", "True or False"),
        ("kind", "one of x, y"),
        ("words", "text"),
    ],
)
def test_range_says_type_and_bounds(name, words):
    assert SETTINGS[name].range() == words


def test_fields_that_are_no_settings_are_left_out():
    assert list(SETTINGS) == [
        *("count", "sides", "share", "rate", "flag", "kind", "words", "weights")
    ]
    assert [name for name, s in SETTINGS.items() if s.free] == ["weights"]


def test_choices_are_those_registered_when_a_value_is_checked(monkeypatch):
    monkeypatch.setitem(CHOICES, "new", 3)
    assert SETTINGS["kind"].error("new") is None
    assert SETTINGS["kind"].range() == "one of x, y, new"


def test_default_may_depend_on_what_is_registered():
    names = ["a"]

    @dataclass
    class Growing:
        weights: dict[str, float] = setting(lambda: dict.fromkeys(names, 0.0), "weights")

    names.append("b")
    assert settings_of(Growing)["weights"].default == Growing().weights == {"a": 0.0, "b": 0.0}
    Growing().weights["c"] = 1.0  # of that object alone
    assert Growing().weights == {"a": 0.0, "b": 0.0}


def test_object_takes_its_own_values_and_what_older_runs_did_for_missing_ones():
    made = construct(Example, {"count": 3, "sides": [1, 2], "share": 1, "unknown": 5}, other=9)
    assert (made.count, made.sides, made.rate, made.other) == (3, (1, 2), 0.1, 9)
    assert isinstance(made.share, float)
    assert made.flag is False  # `before`, and not the default
    assert Example().flag is True


def test_flax_modules_have_settings_and_the_first_of_a_name_counts():
    class Module(nn.Module):
        count: int = setting(5, "another count", low=5)
        extra: int = setting(1, "only here")

    both = settings_of(Example, Module)
    assert both["count"] is SETTINGS["count"]
    assert both["extra"].default == 1
    assert construct(Module, {"count": 8}).count == 8


def values(**more):
    return {name: s.default for name, s in SETTINGS.items()} | more


@pytest.mark.parametrize(
    ("section", "more", "message"),
    [
        ("part", {"count": 0}, "part.count=0 is out of range: has to be at least 1."),
        ("", {"count": 0}, "count=0 is out of range: has to be at least 1."),
        ("part", {"sides": (4, "x")}, r"part.sides=\[4, 'x'\] has to be a tuple of"),
        ("part", {"colour": 1}, "config has no value 'part.colour'"),
        ("", {"colour": 1}, "config has no value 'colour'"),
        ("part", {"words": "a\nb", "kind": "a\nb"}, r"part.kind=a b is not one of x, y\."),
    ],
)
def test_section_is_valid_until_one_value_is_wrong(section, more, message):
    require_valid(section, values(), SETTINGS)
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        require_valid(section, values(**more), SETTINGS)


def test_missing_value_is_named_with_its_meaning():
    incomplete = values()
    del incomplete["rate"]
    with pytest.raises(InputError, match=r"config lacks 'part\.rate': a rate\."):
        require_valid("part", incomplete, SETTINGS)
