"""HTML page of an evaluation of a prior."""

import html
import re

import pytest

from avq.report.prior_page import in_words, prior_page

from .report_helpers import HOSTILE, made_generated, made_prior_report


def cells(text):
    """Text of the cells of its tables."""
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td>(.*?)</td>", text)]


@pytest.mark.parametrize("levels", [1, 3])
def test_page_has_each_level_and_what_was_drawn(levels):
    text = prior_page(made_prior_report(levels), made_generated(levels))
    assert text.count("<img") == 2 + 8 * 3
    for level in range(1, levels + 1):
        assert f"level {level} drawn" in text
    row = cells(text).index("level 1")
    assert cells(text)[row : row + 4] == ["level 1", "6.750", "6.500", "+0.250"]


def test_memorisation_is_put_in_words():
    text = prior_page(made_prior_report(), made_generated())
    assert in_words(0.75) in text
    assert "0.75 times" in in_words(0.75)
    assert "repeats training images, or" in in_words(0.75)
    assert "no sign" in in_words(0.97)


def test_bound_is_called_one():
    text = prior_page(made_prior_report(exact=False), made_generated())
    assert "at most 6.500" in text
    assert "at most" not in prior_page(made_prior_report(), made_generated())


def test_text_from_outside_is_shown_as_text_and_no_other_file_is_needed():
    text = prior_page(made_prior_report(), made_generated())
    assert HOSTILE not in text
    assert text.count(html.escape(HOSTILE)) >= 3
    assert all(part.startswith("data:") for part in re.findall(r'(?:src|href)="([^"#]+)', text))
