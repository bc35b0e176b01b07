"""Extension of Griffe: docstrings of avq as mkdocstrings shows them, and those that are missing."""

import ast
import re
from dataclasses import fields, replace
from typing import Any

import griffe

log = griffe.get_logger(__name__)
# "    a, b: text" with the lines that go on with it, and "Example:" with its lines.
SEVERAL = re.compile(r"^    ((?:\w+, )+\w+)(: .*(?:\n {5,}.*)*)", re.MULTILINE)
EXAMPLE = re.compile(r"^Example:\n((?:    .*\n?|\n)+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Inherits docstrings, reads those of settings, and warns of what has none."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Brings a docstring into the form that the parser of sections knows."""
        if obj.docstring:
            text = EXAMPLE.sub(_examples, SEVERAL.sub(_each, obj.docstring.value))
            summary, *rest = text.split("\n\n", 1)
            obj.docstring.value = "\n\n".join([summary.replace("\n", " "), *rest])

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        """Shows an object where it is defined, not where it is exported as well."""
        mod.exports = None

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Takes the meaning and default of a setting from the call of `avq.settings.setting`."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and call.canonical_path == "avq.settings.setting":
            attr.value, meaning = call.arguments[:2]
            attr.docstring = griffe.Docstring(ast.literal_eval(str(meaning)), parent=attr)

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Shows shapes in its signature as they are written."""
        for annotation in [func.returns, *(parameter.annotation for parameter in func.parameters)]:
            _quote_shapes(annotation)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Looks through all of a package."""
        _complete(pkg)


def _complete(obj: griffe.Object) -> None:
    """Gives what is public and has no docstring that of what it overrides."""
    for name, member in obj.members.items():
        if member.is_alias or name.startswith("_") or _is_value(member):
            continue
        if not member.docstring and obj.is_class:
            overridden = (base.members.get(name) for base in obj.mro())
            member.docstring = next((o.docstring for o in overridden if o and o.docstring), None)
        # Flax says what setup is.
        if not member.docstring and name != "setup":
            place = f"{member.relative_filepath}:{member.lineno or 1}"
            log.warning(f"{place}: {member.path} has no docstring")
        _complete(member)


def _is_value(member: griffe.Object) -> bool:
    """Whether it is an attribute that no function computes."""
    return member.is_attribute and "property" not in member.labels


def _quote_shapes(part: Any) -> None:
    """Puts a shape of one word, such as "k", in quotes again: Griffe takes it for a type."""
    if not isinstance(part, griffe.Expr):
        return
    if isinstance(part, griffe.ExprSubscript) and part.canonical_path.startswith("jaxtyping."):
        array, shape = part.slice.elements
        part.slice = replace(part.slice, elements=[array, _quoted(shape)])
    for field in fields(part):
        value = getattr(part, field.name)
        for inner in value if isinstance(value, list) else [value]:
            _quote_shapes(inner)


def _quoted(shape: griffe.Expr | str) -> str:
    return shape if isinstance(shape, str) and shape[0] in "\"'" else repr(str(shape))


def _each(match: re.Match[str]) -> str:
    """One line for each of several names with one meaning."""
    return "\n".join(f"    {name}{match[2]}" for name in match[1].split(", "))


def _examples(match: re.Match[str]) -> str:
    """A section of examples; code without prompts is a block of it."""
    code = match[1].rstrip("\n")
    body = code if ">>> " in code else f"    ```python\n{code}\n    ```"
    return f"Examples:\n{body}\n"
