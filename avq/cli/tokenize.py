"""`avq tokenize`."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import progress, require_writable, verb


@verb(
    "tokenize",
    examples=(
        "avq tokenize runs/ah faces.zip codes",
        "avq tokenize runs/ah faces256/ faces.npz --step 1000",
    ),
)
def tokenize(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's --workdir, or what avq export wrote."),
    ],
    data: Annotated[str, typer.Argument(help="Images, as data.path takes them.")],
    out: Annotated[Path, typer.Argument(help="Folder of shards to fill, or a .npz file.")],
    *,
    step: Annotated[
        int | None, typer.Option(min=0, help="Checkpoint of this step. Default: the newest.")
    ] = None,
    max_rejected: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of unreadable images at which to stop. Default: the run's."
        ),
    ] = None,
) -> None:
    """Encodes a data set, as centre squares of the model's size, into shards of codes.

    The same command continues after an interruption, and ends with the same bytes.
    """
    from avq import cpu, parallel
    from avq.apply.tokenize import SUFFIX
    from avq.apply.tokenize import tokenize as tokenize_set
    from avq.apply.tokenizer import load
    from avq.data.dataset import in_words

    if out.suffix == SUFFIX:
        require_writable(out)
    cpu.keep_memory()
    tokenizer, mesh = load(model, step), parallel.make_mesh()
    ended: list[tuple[float, int]] = []  # each batch
    try:
        with progress() as (on_total, on_images):

            def on_encoded(count: int) -> None:
                on_images(count)
                ended.append((time.perf_counter(), count))

            about = tokenize_set(
                tokenizer,
                data,
                out,
                mesh=mesh,
                max_rejected=max_rejected,
                on_total=on_total,
                on_kept=on_images,
                on_images=on_encoded,
            )
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None
    for entry in about["rejected"]:
        print(f"left out {entry['name']}: {entry['reason']}", file=sys.stderr)
    if about["unused"]:
        print(f"not used: {in_words(about['unused'])}", file=sys.stderr)
    counts, grids = about["counts"], about["grids"]
    levels = zip(grids, about["codebook_sizes"], strict=True)
    each = " and ".join(f"{height}x{width} of {size:,}" for (height, width), size in levels)
    print(
        f"{out}: codes of {counts['train']:,} training and {counts['test']:,} test images, {each} "
        f"codes each, {len(about['rejected'])} left out, split: {about['split_rule']}"
    )
    if len(ended) > 1:  # without the first batch, which waits for the compiler
        seconds = ended[-1][0] - ended[0][0]
        speed = sum(count for _, count in ended[1:]) / seconds
        print(f"{speed:,.0f} img/s on {parallel.device_in_words(mesh)}")
