"""`avq prepare`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import (
    ChannelsOption,
    print_left_out,
    progress,
    require_channels,
    resumable,
    verb,
)


@verb(
    "prepare",
    examples=(
        "avq prepare faces.zip faces256 --size 256",
        "avq prepare photos/ photos64 --size 64 --split 0.9 --workers 4",
    ),
)
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Folder, .zip, .array_record or .parquet.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder to fill.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the squares, pixels.")] = 256,
    split: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share that trains, where SRC has no train/ and test/."),
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="Of the random split.")] = 1967,
    random_split: Annotated[
        bool, typer.Option("--random-split", help="As --config.data.random_split.")
    ] = False,
    white_level: Annotated[
        int, typer.Option(min=0, help="As --config.data.white_level takes it.")
    ] = 0,
    channels: ChannelsOption = 3,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one for each core.")
    ] = None,
    max_rejected: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unreadable images at which to stop.")
    ] = 0.01,
) -> None:
    """Cuts and resizes images into ArrayRecord shards, from which training reads fastest."""
    from avq.data.prepare import prepare

    require_channels(channels)
    with resumable(), progress() as (on_total, on_images):
        about = prepare(
            source,
            target,
            size=size,
            split=split,
            seed=seed,
            random_split=random_split,
            white_level=white_level,
            channels=channels,
            workers=workers or os.cpu_count() or 1,
            max_rejected=max_rejected,
            on_total=on_total,
            on_images=on_images,
        )
    print_left_out(about)
    counts = about["counts"]
    print(
        f"{target}: {counts['train']} training and {counts['test']} test images of {size} pixels, "
        f"{len(about['rejected'])} left out, split: {about['split_rule']}, "
        f"{about['near_duplicates']['pairs']} pairs nearly equal across the split\n"
        f"train on them with --config.data.path={target}"
    )
