"""HTML page of an evaluation."""

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avq.report.page import page, shown

MEASURES = {
    "n": 4,
    "mae": 0.123456,
    "active_codes": [7, 3],
    "perplexity": [5.25, 2.5],
    "split": "test",
    "data": "faces & <places>",
}
MEANINGS = {
    "n": "images measured",
    "mae": "mean absolute error",
    "active_codes": "codes used at least once",
    "perplexity": "exp of the entropy of code use, <b>nats</b> & no bits",
    "split": "which images",
    "data": "where they come from",
}
CONFIG: dict[str, Any] = {"seed": 0, "data": {"path": "a </pre><script>alert(1)</script>"}}


class Page(HTMLParser):
    """Collects tags, links, text by tag and table cells by row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.rows, self.texts, self.open = [], [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        tag = self.open[-1] if self.open else ""
        self.texts[tag] = self.texts.get(tag, "") + data
        if tag == "td":
            self.rows[-1][-1] += data


def picture():
    return np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)


def test_page_needs_no_other_file():
    text = page("a run", MEASURES, MEANINGS, picture(), CONFIG)
    links = Page(text).links
    assert len(links) == 1
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?:|@import|url\(", text)


def test_page_holds_every_measure_with_its_value_and_meaning():
    rows = Page(page("a run", MEASURES, MEANINGS, picture(), CONFIG)).rows
    assert [row[0] for row in rows] == list(MEASURES)
    assert [row[1] for row in rows] == [
        "4",
        "0.1235",
        "7, 3",
        "5.2500, 2.5000",
        "test",
        "faces & <places>",
    ]
    assert [row[2] for row in rows] == list(MEANINGS.values())


def test_measure_and_meaning_from_outside_are_shown_as_text():
    measures = MEASURES | {"<i>sharp</i>": "<script>alert(1)</script>"}
    meanings = MEANINGS | {"<i>sharp</i>": "<img src=//x>"}
    parsed = Page(page("a run", measures, meanings, picture(), CONFIG))
    assert parsed.rows[-1] == ["<i>sharp</i>", "<script>alert(1)</script>", "<img src=//x>"]
    assert not {"script", "i", "b"} & set(parsed.tags)
    assert parsed.tags.count("img") == 1


def test_measure_without_a_meaning_is_shown():
    rows = Page(page("a run", {"blur": 0.5}, MEANINGS, picture(), CONFIG)).rows
    assert rows == [["blur", "0.5000", ""]]


def test_picture_in_the_page_has_the_same_pixels():
    pixels = picture()
    (link,) = Page(page("a run", MEASURES, MEANINGS, pixels, CONFIG)).links
    data = base64.b64decode(link.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    "title", ["</title><script>alert(1)</script>", "<img src=//x>", 'a "quoted" & {odd} title']
)
def test_hostile_title_and_config_are_shown_as_text(title):
    text = page(title, MEASURES, MEANINGS, picture(), CONFIG)
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert parsed.tags.count("img") == 1
    assert parsed.texts["title"] == parsed.texts["h1"] == title
    assert CONFIG["data"]["path"] in parsed.texts["pre"]


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (0.5, "0.5000"), ([1, 0.25], "1, 0.2500"), ("all", "all")]
)
def test_values_are_shown_to_four_decimals(value, text):
    assert shown(value) == text
