"""Charts as SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from avq.report.charts import Point, bars, histogram, line_chart, points

SVG = "{http://www.w3.org/2000/svg}"
X = np.arange(5)


def drawn():
    return {
        "lines": line_chart({"train": (X, X**2), "test": (X, 2 * X)}, "step", "loss < 1"),
        "points": points({"ah": [Point(1, 2, 1.5, 2.5)], "h": [Point(2, 3, 2, 4)]}, "x", "y"),
        "bars": bars({"ah": 2.0, "h <b> $x$": 3}, "dB"),
        "histogram": histogram({"level 1": [0.0, 1.0, 1.0], "level 2": np.ones(3)}, "row sum"),
    }


@pytest.fixture(scope="module")
def charts():
    return drawn()


def test_charts_are_whole_documents_that_load_nothing(charts):
    for text in charts.values():
        assert ET.fromstring(text).tag == f"{SVG}svg"
        assert not re.search(r"<script|<image|@import|url\((?!#)|href=\"(?!#)", text)


def test_same_values_give_the_same_bytes(charts):
    assert drawn() == charts


def test_text_and_axes_have_the_colour_of_the_page(charts):
    for text in charts.values():
        styles = [element.get("style", "") for element in ET.fromstring(text).iter(f"{SVG}text")]
        assert styles
        assert all("fill: currentColor" in style for style in styles)
        assert "#000000" not in text
        assert "#ffffff" not in text


def test_labels_and_names_are_shown_as_text(charts):
    shown = {k: "".join(ET.fromstring(text).itertext()) for k, text in charts.items()}
    assert all(word in shown["lines"] for word in ("train", "test", "step", "loss < 1"))
    assert "h <b> $x$" in shown["bars"]


def path_of(text, colour):
    """Corners of the first path of a colour, in points."""
    (path, *_) = re.findall(rf'<path d="([^"]*)"[^>]*stroke: {colour}', text)
    return np.array([[float(x) for x in p] for p in re.findall(r"([\d.]+) ([\d.]+)", path)])


def test_line_goes_through_its_points():
    x, y = path_of(line_chart({"": (X, X**2)}, "x", "y"), "#3a86c8").T
    np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), X / 4, atol=1e-3)
    np.testing.assert_allclose((y - y[0]) / (y[-1] - y[0]), X**2 / 16, atol=1e-3)


def test_logarithmic_axis_spaces_powers_of_ten_alike():
    x, _ = path_of(line_chart({"": ([1, 10, 100], [1, 2, 3])}, "x", "y", log_x=True), "#3a86c8").T
    np.testing.assert_allclose(np.diff(x), np.diff(x).mean(), rtol=1e-4)


def test_error_bar_spans_the_interval():
    text = points({"": [Point(0, 0, -1, 3), Point(1, 1, 1, 1)]}, "x", "y")
    marks = re.findall(r'<use [^>]*y="([\d.]+)" style="fill: #3a86c8', text)
    low, zero, one, high = sorted({float(y) for y in marks}, reverse=True)  # y points down
    np.testing.assert_allclose([low - zero, one - high], (zero - one) * np.array([1, 2]), rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_sample_of_equal_values_has_a_histogram(value):
    assert "<svg" in histogram({"": np.full(4, value)}, "x")


def test_histogram_of_each_sample_adds_up_to_one():
    text = histogram({"few": [0.0, 1.0], "many": np.linspace(0, 1, 100)}, "x", bins=2)
    heights = [path_of(text, colour)[:, 1] for colour in ("#3a86c8", "#e07b1a")]
    # Half of each sample is in each of the two intervals.
    assert all(len(set(np.round(h, 3))) == 2 for h in heights)
    np.testing.assert_allclose(heights[0].min(), heights[1].min())
