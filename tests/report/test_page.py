"""HTML page of an evaluation."""

import base64
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from avq.evaluate.baselines import Baseline
from avq.report.page import page
from avq.report.text import duration, shown

from .report_helpers import (
    HOSTILE,
    MEANINGS,
    VALUES,
    made_comparison,
    made_inside,
    made_report,
)

VOID = {"img", "meta", "link", "use", "path"}


class Page(HTMLParser):
    """Collects tags, links, and the text of every element that is innermost, by tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.texts = [], [], {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for key, v in attrs if key in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data


@pytest.fixture(scope="module")
def text():
    kmeans = Baseline(24.5, 0.7, 0.5, 5, 21.5)
    baselines = {"patch_kmeans": asdict(kmeans)}
    values = VALUES | {"baselines": baselines, "compare": {"h": {"psnr": 22.5}}}
    report = made_report(values=values, comparison=made_comparison())
    return page(report, made_inside())


def test_page_needs_no_other_file_and_no_script(text):
    parsed = Page(text)
    assert all(link.startswith(("data:", "#")) for link in parsed.links)
    assert "script" not in parsed.tags
    assert not re.search(r"@import|url\((?!#)| on\w+=", text)


def test_every_measure_stands_with_its_interval_and_meaning(text):
    cells = Page(text).texts["td"]
    cells = cells[cells.index("nimages measured") :]  # behind the other tables
    cut = {k: v[:2] if isinstance(v, list) else v for k, v in VALUES.items()}
    for key, value in cut.items():
        if not isinstance(value, dict):
            row = cells.index(key + MEANINGS.get(key, ""))
            ends = VALUES["interval"].get(key)
            between = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
            assert cells[row + 1] == shown(value) + between


def test_headline_gives_figures_with_intervals(text):
    tiles = " ".join(Page(text).texts["div"])
    assert "21.5095 %: 20.25 to 22.75" in tiles
    assert "25%originals: 3%" in tiles


def test_text_from_outside_is_shown_as_text(text):
    parsed = Page(text)
    assert not {"script", "i", "meter"} & set(parsed.tags)
    assert parsed.texts["title"] == parsed.texts["h1"] == [f"a run {HOSTILE}"]
    config = json.loads(parsed.texts["pre"][0])
    assert config["note"] == HOSTILE


def test_sources_baselines_and_other_runs_have_their_rows(text):
    parsed = Page(text)
    assert {"By source", "Baselines", "Comparison"} <= set(parsed.texts["h2"])
    assert {"19.5000", "24.5000", "+1.0000 (+0.5000 to +1.5000)"} <= set(parsed.texts["td"])
    (warning,) = [p for p in parsed.texts["p"] if "behind" in p]
    assert warning == "The model is behind patch k-means at equal bits: 21.50 against 24.50 dB."


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_each_level_has_code_maps_and_a_row_of_what_it_carries(levels):
    inside = made_inside(levels)
    parsed = Page(page(made_report(levels), inside))
    captions = parsed.texts["figcaption"]
    for level in range(1, levels + 1):
        assert captions.count(f"codes, level {level}") == len(inside.examples)
    rows = [cell for cell in parsed.texts["td"] if ": codes of another image" in cell]
    words = ["sent", "not sent", "not sent"][:levels]
    assert rows == [f"level {i + 1}, {w}: codes of another image" for i, w in enumerate(words)]
    assert "-9.75" in parsed.texts["td"]  # 11.5 dB for 21.25


def test_model_without_attention_has_no_part_about_it(text):
    without = Page(page(made_report(), made_inside(attention=False)))
    assert "Attention" in Page(text).texts["h2"]
    assert "Attention" not in without.texts["h2"]


def test_training_without_records_and_without_flat_areas_is_a_page():
    values = {k: v for k, v in VALUES.items() if not k.startswith("dots")}
    parsed = Page(page(made_report(values=values, records=[]), made_inside()))
    assert "200 steps of 8 images." in parsed.texts["p"]


def test_all_pictures_decode_and_inputs_are_kept_to_the_bit(text):
    links = [link for link in Page(text).links if link.startswith("data:image")]
    pictures = []
    for link in links:
        with Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) as image:
            pictures.append(np.asarray(image))
    inside = made_inside()
    assert len(pictures) == 6 * 5 + 2 * 3 * 3
    np.testing.assert_array_equal(pictures[0], inside.examples[0].image)
    np.testing.assert_array_equal(pictures[1], inside.examples[0].reconstruction)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (0.5, "0.5000"),
        ([1, 0.25], "1, 0.2500"),
        ("all", "all"),
        (None, "not known"),
    ],
)
def test_values_are_shown_to_four_decimals(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(40.0, "40 s"), (720.0, "12 min"), (12240.0, "3.4 h")]
)
def test_durations_are_shown_by_their_size(seconds, text):
    assert duration(seconds) == text
