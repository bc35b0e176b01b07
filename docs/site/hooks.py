"""Hooks of `make docs`: the pages are taken from where they stand in the repository.

So a link between files holds in the repository and in the site alike.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from properdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Of the files that git keeps or does not ignore.
PAGES = ["*.md", "*.ipynb", "*.css", "docs/images", "avq/shipped/*.png"]
PAGES += ["studies", "launch", "findings", "CITATION.cff"]


def on_files(files: Files, config: Any) -> None:
    """Takes the repository's pages, and what they link to, in place of the content of docs/."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PAGES]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        kind = Notebook if name.endswith(".ipynb") else File
        files.append(kind(name, str(ROOT), config.site_dir, config.use_directory_urls))
    pages = [Path(name).stem for name in references(config.nav)]
    for page in pages:
        text = "\n\n".join(directive(module, page) for module in modules(page, pages))
        files.append(File.generated(config, f"reference/{page}.md", content=text))


class Notebook(File):
    """A notebook as a page: its text, code and outputs as they are stored."""

    def is_documentation_page(self) -> bool:
        """Whether it becomes a page of its own."""
        return True

    @property
    def content_string(self) -> str:
        """The notebook in Markdown."""
        cells = json.loads(Path(self.abs_src_path).read_text(encoding="utf-8"))["cells"]
        return "\n\n".join(part for cell in cells for part in as_markdown(cell))


def as_markdown(cell: dict[str, Any]) -> Iterator[str]:
    """A cell of a notebook and its outputs in Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            yield f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})"
        else:
            yield f"```text\n{''.join(data['text/plain'])}\n```"


def references(nav: Any) -> Iterator[str]:
    """Paths of the navigation under reference/, a page for the docstrings of a module each."""
    if isinstance(nav, str):
        if nav.startswith("reference/"):
            yield nav
        return
    for part in nav.values() if isinstance(nav, dict) else nav:
        yield from references(part)


def modules(page: str, pages: list[str]) -> list[str]:
    """A module and, of a package, all inside it but those that have a page of their own."""
    inside = sorted(path.with_suffix("") for path in (ROOT / page.replace(".", "/")).rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).parts).removesuffix(".__init__") for path in inside)
    others = [other for other in pages if other.startswith(f"{page}.")]
    own = [name for name in names if not any(f"{name}.".startswith(f"{o}.") for o in others)]
    return [page, *(name for name in own if name != page)]


def directive(module: str, page: str) -> str:
    """What mkdocstrings puts the docstrings of a module in place of."""
    level = 1 if module == page else 2
    return f"::: {module}\n    options: {{heading_level: {level}}}"
