"""`avq data`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import progress, require_folders, verb


@verb(
    "data",
    examples=(
        "avq data faces.zip",
        "avq data faces/ --size 64 --json faces.json --sheet faces.png",
    ),
)
def data(
    path: Annotated[str, typer.Argument(metavar="PATH", help="As --config.data.path takes it.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the squares measured.")] = 256,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet here (.png).")] = None,
) -> None:
    """Reads every image once: counts, sizes, pixel statistics, unreadable files."""
    from PIL import Image

    from avq.data.survey import survey

    require_folders(json_file, sheet)
    with progress() as (on_total, on_images):
        results = survey(path, size, on_total, on_images)
    print(results.as_text())
    if json_file:
        json_file.write_text(json.dumps(results.to_json(), indent=2) + "\n")
    if sheet:
        Image.fromarray(results.sheet).save(sheet, "png")
        print(f"contact sheet: {sheet}")
