"""`avq tokenize`."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from avq.cli.app import (
    FinishOption,
    RayOption,
    RunArgument,
    StepOption,
    WorkerOption,
    print_left_out,
    print_share,
    progress,
    require_writable,
    resumable,
    verb,
    worker_given,
)
from avq.storage.objects import AnyPath, at


@verb(
    "tokenize",
    examples=(
        "avq tokenize runs/ah faces.zip codes",
        "avq tokenize runs/ah faces256/ faces.npz --step 1000",
        "avq tokenize runs/ah faces.zip codes --worker 0/8",
        "avq tokenize runs/ah faces.zip codes --finish",
    ),
)
def tokenize(
    run: RunArgument,
    data: Annotated[str, typer.Argument(help="Images, as data.path takes them.")],
    out: Annotated[Path, typer.Argument(help="Folder of shards to fill, or a .npz file.")],
    *,
    step: StepOption = None,
    max_rejected: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of unreadable images at which to stop. Default: the run's."
        ),
    ] = None,
    worker: WorkerOption = None,
    finish: FinishOption = False,
    ray: RayOption = None,
) -> None:
    """Encodes a data set, as centre squares of the model's size, into shards of codes.

    The same command continues after an interruption, and ends with the same bytes.
    """
    from avq import parallel
    from avq.apply.tokenize import SUFFIX
    from avq.ray_tasks import run_workers

    share = worker_given(worker, finish, ray)
    if out.suffix == SUFFIX:
        require_writable(out)
    call = partial(tokenize_by, run, step, data, out, max_rejected=max_rejected)
    ended: list[tuple[float, int]] = []  # each batch
    with resumable(), progress("worker" if ray else "img") as (on_total, on_done):

        def on_encoded(count: int) -> None:
            on_done(count)
            ended.append((time.perf_counter(), count))

        if ray:
            on_total(ray)
            about = run_workers(call, ray, gpu=True, on_done=on_done)
        else:
            about = call(
                worker=share,
                finish=finish,
                on_total=on_total,
                on_kept=on_done,
                on_images=on_encoded,
            )
    print_left_out(about)
    if share:
        print_share(at(out), share)
    else:
        _print_whole(at(out), about)
    if len(ended) > 1:  # without the first batch, which waits for the compiler
        seconds = ended[-1][0] - ended[0][0]
        speed = sum(count for _, count in ended[1:]) / seconds
        print(f"{speed:,.0f} img/s on {parallel.device_in_words(parallel.make_mesh())}")


def tokenize_by(run: Path, step: int | None, data: str, out: Path, **options: Any) -> Any:
    """Loads a model, and tokenizes by it on all devices; `options` as `avq.apply.tokenize` takes
    them.
    """
    from avq import cpu
    from avq.apply.tokenize import tokenize
    from avq.apply.tokenizer import load

    cpu.keep_memory()
    return tokenize(load(run, step), data, out, **options)


def _print_whole(out: AnyPath, about: Mapping[str, Any]) -> None:
    counts = about["counts"]
    levels = zip(about["grids"], about["codebook_sizes"], strict=True)
    each = " and ".join(f"{height}x{width} of {size:,}" for (height, width), size in levels)
    print(
        f"{out}: codes of {counts['train']:,} training and {counts['test']:,} test images, {each} "
        f"codes each, {len(about['rejected'])} left out, split: {about['split_rule']}"
    )
