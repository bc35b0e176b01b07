"""HTML page of an evaluation: measures, pictures, config; one file that needs no other."""

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
color: #222 }} table {{ border-collapse: collapse }} td {{ padding: .2rem 1.5rem .2rem 0;
border-top: 1px solid #ddd; vertical-align: top }} td:nth-child(2) {{ font-variant-numeric:
tabular-nums; white-space: nowrap }} td:nth-child(3) {{ color: #666 }} img {{ width: 100%;
image-rendering: pixelated }} pre {{ background: #f6f6f6; padding: 1rem; overflow: auto }}
</style></head><body> <h1>{title}</h1> <p>Images above their reconstructions.</p> <img alt="images
above their reconstructions" src="data:image/png;base64,{picture}"> <h2>Measures</h2>
<table>{rows}</table> <h2>Config</h2> <pre>{config}</pre> </body></html>
"""


def shown(value: object) -> str:
    """Formats a measure: numbers to four decimals, lists separated by commas."""
    if isinstance(value, list):
        return ", ".join(shown(entry) for entry in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def page(
    title: str,
    measures: Mapping[str, object],
    meanings: Mapping[str, str],
    picture: UInt8[np.ndarray, "h w 3"],
    config: Mapping[str, Any],
) -> str:
    """Renders the page as HTML.

    Args:
        title: its heading.
        measures: as `avq eval --json` writes them.
        meanings: one line on each measure, such as `avq.evaluate.metrics.meanings()`.
        picture: images above their reconstructions.
        config: of the run.
    """
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    rows = ((name, shown(value), meanings.get(name, "")) for name, value in measures.items())
    return PAGE.format(
        title=html.escape(title),
        picture=base64.b64encode(file.getvalue()).decode(),
        rows="".join(_row(cells) for cells in rows),
        config=html.escape(json.dumps(config, indent=2)),
    )


def _row(cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
