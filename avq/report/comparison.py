"""Comparison of runs, as text and as a part of a page."""

from collections.abc import Iterator
from typing import Any

from avq.evaluate.comparison import Comparison
from avq.evaluate.results import Difference
from avq.report.markup import Html, element, table
from avq.report.text import shown

WORDS = "Differences are over the same images, with 95 % intervals."


def rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Rows of a table, its header first: figures of each run; below means over images, how much
    each other run differs from the first.
    """
    yield ("", *comparison.names)
    for key, value in comparison.values[0].items():
        if isinstance(value, dict | str):
            continue
        yield (key, *(shown(values.get(key, "")) for values in comparison.values))
        differences = [by_key.get(key) for by_key in comparison.differences]
        if any(differences):
            yield ("", "", *(_difference(difference) for difference in differences))


def lines(comparison: Comparison) -> Iterator[str]:
    """The table for a terminal."""
    cells = list(rows(comparison))
    widths = [max(len(row[i]) for row in cells) + 2 for i in range(len(cells[0]))]
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield row[0].ljust(len(first)) + "".join(others)
    yield WORDS


def as_json(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Values of each run but the first by its name, with their `difference` from the first by key:
    mean, and ends of the interval.
    """
    names, values = comparison.names[1:], comparison.values[1:]
    return {
        name: {**of_run, "difference": {k: list(d) for k, d in differences.items()}}
        for name, of_run, differences in zip(names, values, comparison.differences, strict=True)
    }


def comparison_table(comparison: Comparison) -> Iterator[Html]:
    """The table for a page."""
    header, *body = rows(comparison)
    yield element("p", WORDS, class_="soft")
    yield table(body, header)


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
