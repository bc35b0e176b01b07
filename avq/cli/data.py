"""`avq data`."""

from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import ChannelsOption, progress, require_channels, require_writable, verb


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
    random_split: Annotated[
        bool, typer.Option("--random-split", help="As --config.data.random_split.")
    ] = False,
    white_level: Annotated[
        int, typer.Option(min=0, help="As --config.data.white_level takes it.")
    ] = 0,
    channels: ChannelsOption = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet here (.png).")] = None,
) -> None:
    """Reads every image once: counts, split, sizes, pixel statistics, unreadable files."""
    from PIL import Image

    from avq.data.settings import Data
    from avq.data.survey import survey
    from avq.json_files import replaced, write_json

    require_writable(json_file, sheet)
    require_channels(channels)
    images = Data(
        path=path,
        image_size=size,
        random_split=random_split,
        white_level=white_level,
        channels=channels,
    )
    with progress() as (on_total, on_images):
        results = survey(images, on_total, on_images)
    print(results.as_text())
    if json_file:
        write_json(json_file, results.to_json())
    if sheet:
        with replaced(sheet) as file:
            Image.fromarray(results.sheet).save(file, "png")
        print(f"contact sheet: {sheet}")
