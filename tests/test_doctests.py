"""Examples in docstrings give what they show."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import avq

PACKAGE = Path(avq.__file__).parent
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def examples():
    """Docstrings with an example, with their modules. Read from the source, since `doctest` passes
    over functions that a decorator has wrapped.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(["avq", *path.relative_to(PACKAGE).with_suffix("").parts])
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text and ">>> " in text:
                name = f"{module}.{getattr(node, 'name', '')}"
                yield pytest.param(module, text, id=name)


@pytest.mark.parametrize(("module", "text"), list(examples()))
def test_example_gives_what_it_shows(module, text):
    names = dict(vars(importlib.import_module(module.removesuffix(".__init__"))))
    example = doctest.DocTestParser().get_doctest(text, names, module, None, 0)
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=printed.append)
    assert result.attempted
    assert not result.failed, "".join(printed)
