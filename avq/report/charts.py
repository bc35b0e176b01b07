"""Charts as SVG text: readable on light and dark, drawn without a display or a global state.

The same values give the same bytes. A chart stands alone as a file and inside a page.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.6, 2.9  # inches; a phone shows it at about three quarters
# Of similar lightness, so that they stand out from white and from black; told apart with red-green
# blindness (after Okabe and Ito), and by their markers.
COLOURS = ("#3a86c8", "#e07b1a", "#1f9e74", "#b565b0", "#c9a200", "#d1495b", "#7a8793", "#5fb3e6")
MARKERS = "osD^vP"
INK = "#010203"  # replaced by the text's colour
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "avq",
    "text.parse_math": False,  # a name may hold a dollar
    "font.family": "sans-serif",
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
STYLE = (
    "svg{color:#333;font-family:system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){svg{color:#ccc}}"
)


class Point(NamedTuple):
    """Point of a chart with the interval of its y."""

    x: float
    y: float
    low: float
    high: float


def line_chart(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """Draws a line through the points of each series.

    Args:
        series: x and y values by name; one without a name has no legend.
        x_label, y_label: of the axes, with units.
        log_x, log_y: whether an axis is logarithmic.

    Returns:
        An `<svg>` element.
    """
    with _chart(x_label, y_label) as (axes, svg):
        for (name, (xs, ys)), colour in zip(
            series.items(), _repeated(COLOURS, len(series)), strict=True
        ):
            few = "." if np.size(xs) < 30 else ""
            axes.plot(np.asarray(xs), np.asarray(ys), label=name, color=colour, marker=few)
        _scale(axes, log_x, log_y)
    return svg[0]


def points(
    series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, *, log_x: bool = False
) -> str:
    """Draws points with error bars, each series in a colour and marker of its own.

    Args:
        series: points by name.
        x_label, y_label: of the axes, with units.
        log_x: whether the x axis is logarithmic.
    """
    with _chart(x_label, y_label) as (axes, svg):
        colours, markers = _repeated(COLOURS, len(series)), _repeated(MARKERS, len(series))
        for (name, row), colour, marker in zip(series.items(), colours, markers, strict=True):
            x, y, low, high = np.array(row, float).reshape(-1, 4).T
            errors = np.maximum([y - low, high - y], 0)
            axes.errorbar(x, y, errors, label=name, color=colour, fmt=marker, capsize=2)
        _scale(axes, log_x)
    return svg[0]


def bars(values: Mapping[str, float], x_label: str) -> str:
    """Draws a horizontal bar for each named value, the first on top."""
    with _chart(x_label, "", height=1 + 0.3 * len(values)) as (axes, svg):
        axes.barh(list(values), list(values.values()), color=COLOURS[0])
        axes.invert_yaxis()
    return svg[0]


def histogram(samples: Mapping[str, ArrayLike], x_label: str, bins: int = 40) -> str:
    """Draws the distribution of each sample as its share by interval, all on the same intervals."""
    arrays = {name: np.ravel(np.asarray(values)) for name, values in samples.items()}
    every = np.concatenate(list(arrays.values()))
    low, high = float(every.min()), float(every.max())
    margin = 0 if high - low > 1e-6 * max(1, abs(high)) else 0.05 * max(1, abs(high))
    edges = np.linspace(low - margin, high + margin, bins + 1)
    with _chart(x_label, "share") as (axes, svg):
        for (name, values), colour in zip(
            arrays.items(), _repeated(COLOURS, len(arrays)), strict=True
        ):
            shares = np.histogram(values, edges)[0] / values.size
            axes.stairs(shares, edges, label=name, color=colour, fill=True, alpha=0.35)
            axes.stairs(shares, edges, color=colour)
    return svg[0]


def _scale(axes: "Axes", log_x: bool, log_y: bool = False) -> None:
    """Makes axes logarithmic, with plain numbers."""
    from matplotlib.ticker import LogFormatter

    for axis, name, is_log in ((axes.xaxis, "x", log_x), (axes.yaxis, "y", log_y)):
        if is_log:
            axes.set(**{f"{name}scale": "log"})
            axis.set_major_formatter(LogFormatter())
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def _repeated(values: Sequence[str], n: int) -> list[str]:
    return [values[i % len(values)] for i in range(n)]


@contextmanager
def _chart(
    x_label: str, y_label: str, height: float = HEIGHT
) -> "Iterator[tuple[Axes, list[str]]]":
    """Axes to draw on, and a list that holds the SVG once they are left."""
    import matplotlib
    from matplotlib.figure import Figure

    svg: list[str] = []
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.15, color=INK)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", colors=INK)
        axes.spines[:].set_color(INK)
        axes.set_xlabel(x_label, color=INK)
        axes.set_ylabel(y_label, color=INK)
        yield axes, svg
        if any(axes.get_legend_handles_labels()[1]):
            axes.legend(frameon=False, labelcolor=INK, fontsize="small")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=NO_METADATA)
    svg.append(_element(file.getvalue()))


def _element(text: str) -> str:
    """The `<svg>` element of a file, in the colours of its surroundings, without names of groups,
    which would be the same in every chart of a page.
    """
    element = text[text.index("<svg") :]
    element = re.sub(r'<g id="[^"]*">', "<g>", element)
    element = re.sub(r" font-family: [^;]*;", "", element)
    element = element.replace(INK, "currentColor")
    return element.replace("<defs>", f"<style>{STYLE}</style><defs>", 1)
