"""`avq prepare`."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import typer

from avq.cli.app import (
    ChannelsOption,
    FinishOption,
    RayOption,
    WorkerOption,
    print_left_out,
    print_share,
    progress,
    require_channels,
    resumable,
    verb,
    worker_given,
)
from avq.workers import usable_cores

Source = Annotated[
    str, typer.Argument(metavar="SRC", help="Folder, .zip, .array_record or .parquet.")
]
Target = Annotated[
    str, typer.Argument(metavar="DST", help="Folder to fill, also on s3:// or gs://.")
]
SplitOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share that trains, where SRC has no train/ and test/.")
]
RandomSplitOption = Annotated[
    bool, typer.Option("--random-split", help="As --config.data.random_split.")
]
WhiteOption = Annotated[int, typer.Option(min=0, help="As --config.data.white_level takes it.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes. Default: one for each core it may use.")
]
RejectedOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of unreadable images at which to stop.")
]


@verb(
    "prepare",
    examples=(
        "avq prepare faces.zip faces256 --size 256",
        "avq prepare photos/ photos64 --size 64 --split 0.9 --workers 4",
        "avq prepare faces.zip faces256 --size 256 --worker 0/8",
        "avq prepare faces.zip faces256 --size 256 --finish",
        "avq prepare faces.zip s3://bucket/faces256 --size 256",
    ),
)
def prepare(
    source: Source,
    target: Target,
    size: Annotated[int, typer.Option(min=1, help="Side of the squares, pixels.")] = 256,
    split: SplitOption = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="Of the random split.")] = 1967,
    random_split: RandomSplitOption = False,
    white_level: WhiteOption = 0,
    channels: ChannelsOption = 3,
    workers: WorkersOption = None,
    max_rejected: RejectedOption = 0.01,
    worker: WorkerOption = None,
    finish: FinishOption = False,
    ray: RayOption = None,
) -> None:
    """Cuts and resizes images into ArrayRecord shards, from which training reads fastest."""
    from avq.data.prepare import prepare
    from avq.ray_tasks import run_workers
    from avq.storage.objects import at

    require_channels(channels)
    share = worker_given(worker, finish, ray)
    processes = workers or (1 if ray else usable_cores())
    call = partial(
        prepare,
        source,
        at(target),
        size=size,
        split=split,
        seed=seed,
        random_split=random_split,
        white_level=white_level,
        channels=channels,
        workers=processes,
        max_rejected=max_rejected,
    )
    with resumable(), progress("worker" if ray else "img") as (on_total, on_done):
        if ray:
            on_total(ray)
            about = run_workers(call, ray, cores=processes, on_done=on_done)
        else:
            about = call(worker=share, finish=finish, on_total=on_total, on_images=on_done)
    print_left_out(about)
    if share:
        print_share(target, share)
    else:
        _print_whole(target, about)


def _print_whole(target: str, about: Mapping[str, Any]) -> None:
    counts = about["counts"]
    print(
        f"{target}: {counts['train']} training and {counts['test']} test images of "
        f"{about['size']} pixels, {len(about['rejected'])} left out, split: "
        f"{about['split_rule']}, {about['near_duplicates']['pairs']} pairs nearly equal across the "
        f"split\ntrain on them with --config.data.path={target}"
    )
