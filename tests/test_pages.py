"""Pages: their links and anchors, and the tour."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "docs" / "tour.ipynb"
FOLDERS = (".", "avq/shipped/*", "benchmarks", "docs", "findings", "launch", "studies/*")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md"))
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    if page.suffix != ".ipynb":
        return FENCED.sub("", page.read_text())
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    seen: list[str] = []
    for heading in HEADING.findall(text_of(page)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen.append(f"{words}-{seen.count(words)}" if words in seen else words)
    return set(seen)


def broken_links(page: Path) -> Iterator[str]:
    """Links of a page to files or anchors that are not there."""
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_a_place_in_the_site(page):
    """`make docs` fails for one that has none."""
    place = f": {page.relative_to(ROOT)}\n"
    assert place in (ROOT / "properdocs.yml").read_text()


@pytest.mark.parametrize("page", [*PAGES, TOUR], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(page):
    assert list(broken_links(page)) == []


def test_broken_links_are_noticed(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Some `words`, here\n\n```\n# no heading\n```\n\n## Twice\n\n## Twice\n")
    good = "[a](other.md) [b](other.md#some-words-here) [c](#own) [d](other.md#twice-1)"
    bad = "[e](none.md) [f](other.md#no-heading) [g](#none) [h](other.md#twice-2)"
    page.write_text(f"# Own\n\n{good} {bad} [i](https://example.org/none)\n\n```\n[j](none)\n```\n")
    assert list(broken_links(page)) == [
        "none.md",
        "other.md#no-heading",
        "#none",
        "other.md#twice-2",
    ]


def test_every_page_has_a_place_in_the_site():
    site = (ROOT / "properdocs.yml").read_text()
    places = re.findall(r"^ +- .*: (\S+\.(?:md|ipynb))$", site, re.MULTILINE)
    pages = {str(page.relative_to(ROOT)) for page in [*PAGES, TOUR]}
    assert {place for place in places if not place.startswith("reference/")} == pages


def test_tour_is_short_and_stored_with_its_outputs():
    notebook = nbformat.read(TOUR, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 10
    assert TOUR.stat().st_size < 1_000_000
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for cell in code for output in cell.outputs]
    assert "error" not in kinds
    assert kinds.count("display_data") == 2  # the codes, and the photograph beside the decoded one


def test_tour_leads_from_photographs_to_codes_a_file_and_a_report(smoke, tmp_path):
    notebook = nbformat.read(TOUR, as_version=4)
    shrunk = f"settings = {[*smoke, '--config.train.steps=2']}"
    first, settings = re.subn(r"^settings = .*", shrunk, notebook.cells[2].source, flags=re.M)
    assert settings == 1
    notebook.cells[2].source = first
    place = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(notebook, kernel_name="python3", resources=place).execute()
    assert (tmp_path / "tour" / "chelsea.avq").stat().st_size > 0
    assert "<html" in (tmp_path / "tour" / "report.html").read_text()
