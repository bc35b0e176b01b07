"""HTML of a report's parts. Whatever text comes in is escaped; `Html` is what has been."""

import html
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt8

from avq.report.pictures import SMALL, data_uri


class Html(str):
    """Markup, which is put into a page as it is."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """Text as markup; markup as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def joined(parts: Iterable[str]) -> Html:
    """Parts one after the other."""
    return Html("".join(map(escaped, parts)))


def element(tag: str, *parts: str, class_: str = "") -> Html:
    """An element around parts."""
    attribute = f' class="{html.escape(class_)}"' if class_ else ""
    return Html(f"<{tag}{attribute}>{joined(parts)}</{tag}>")


def section(title: str, *parts: str) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *parts)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> Html:
    """Rows of cells, which scroll sideways by themselves where they are wider than the page."""
    head = element("tr", *(element("th", cell) for cell in header)) if header else Html("")
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element("div", element("table", head, *body), class_="scroll")


def picture(pixels: UInt8[np.ndarray, "h w c"], caption: str, alt: str = "") -> Html:
    """A picture with a caption below."""
    source, text = data_uri(pixels), html.escape(alt or caption)
    class_ = ' class="small"' if max(pixels.shape) <= SMALL else ""
    image = Html(f'<img src="{source}" alt="{text}"{class_}>')
    return element("figure", image, element("figcaption", caption))


def details(title: str, *parts: str) -> Html:
    """Parts that open at a click on their title."""
    return element("details", element("summary", title), *parts)
