"""`avq restore denoise`, `upscale`, `anomaly` and `inpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import (
    RunArgument,
    StepOption,
    app,
    progress,
    require_png,
    require_writable,
    verb,
)
from avq.cli.images import BatchOption, FolderOption, ImagesArgument, opened, write_each
from avq.errors import InputError

restore = typer.Typer(
    help="Restores images by a trained model: noise, resolution, anomalies, holes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(restore, name="restore")

BRIGHTEST = 4  # standard deviations above usual images


@verb(
    "denoise",
    group=restore,
    examples=("avq restore denoise runs/noise noisy.png -o denoised/",),
)
def denoise(
    run: RunArgument,
    images: ImagesArgument,
    *,
    out: FolderOption,
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Removes noise from images, by a run that was trained with --config.data.noise=25."""
    from avq.apply.restore.denoise import denoise

    tokenizer, pictures = opened(run, images, step, batch_size)
    write_each(out, pictures.names, denoise(tokenizer, pictures))


@verb(
    "upscale",
    group=restore,
    examples=("avq restore upscale runs/x2 small.png -o enlarged/",),
)
def upscale(
    run: RunArgument,
    images: ImagesArgument,
    *,
    out: FolderOption,
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Enlarges images, by a run that was trained with --config.data.downscale=2, the factor."""
    from avq.apply.restore.upscale import upscale

    tokenizer, pictures = opened(run, images, step, batch_size)
    write_each(out, pictures.names, upscale(tokenizer, pictures))


@verb(
    "anomaly",
    group=restore,
    examples=(
        "avq restore anomaly runs/ah photo.jpg -o maps/ --json scores.json",
        "avq restore anomaly runs/ah parts/ -o maps/ --usual good_parts/ --map both",
    ),
)
def anomaly(
    run: RunArgument,
    images: ImagesArgument,
    *,
    out: FolderOption,
    usual: Annotated[
        list[str] | None,
        typer.Option(help="Images that show what is usual. Default: the run's training images."),
    ] = None,
    shown: Annotated[
        str, typer.Option("--map", help="What the pictures show: error, rarity or both.")
    ] = "error",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the scores of each image here.")
    ] = None,
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Maps where images are unlike usual ones: badly reconstructed, or of rare codes.

    Values are standard deviations above the mean of usual images; maps are black from 0 down and
    brightest from 4 up. An image's score is its map's largest value.
    """
    from avq.apply.pictures import Pictures, require_folder, write_png
    from avq.apply.restore.anomaly import Anomalies, Maps, usual_images
    from avq.json_files import write_json
    from avq.pixels import heat

    if shown not in Maps._fields:
        raise InputError(f"--map: {shown!r} is not one of {', '.join(Maps._fields)}.")
    require_writable(json_file)
    tokenizer, pictures = opened(run, images, step, batch_size)
    known = Pictures(usual, tokenizer.trained.data) if usual else usual_images(tokenizer)
    anomalies = Anomalies(tokenizer, known)
    require_folder(out)
    scores = {}
    with progress() as (on_total, on_images):
        on_total(len(pictures))
        for name, maps in zip(pictures.names, anomalies.maps(pictures), strict=True):
            write_png(out, name, heat(getattr(maps, shown) / BRIGHTEST))
            scores[name] = maps.scores()
            on_images(1)
    if json_file:
        write_json(json_file, {"images": scores})
    first = max(scores, key=lambda name: scores[name][shown])
    print(f"{out}: {len(scores):,} maps; highest: {first}, {scores[first][shown]:.2f}")


@verb(
    "inpaint",
    group=restore,
    examples=("avq restore inpaint runs/ah photo.png --mask hole.png -o filled.png",),
)
def inpaint(
    run: RunArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    *,
    mask: Annotated[Path, typer.Option(help="Image of its size, white where to fill.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A .png file.")],
    step: StepOption = None,
) -> None:
    """Fills a hole of an image by what surrounds it and the model's codes, without a prior."""
    from avq import cpu
    from avq.apply import inputs
    from avq.apply.pictures import write_png
    from avq.apply.restore.inpaint import inpaint
    from avq.apply.tokenizer import load

    require_png(out)
    cpu.keep_memory()
    tokenizer = load(run, step)
    pixels, hole = inputs.opened(image, tokenizer.trained.data), inputs.opened(mask).mean(-1) > 127
    write_png(out.parent, out.name, inpaint(tokenizer, pixels, hole))
    print(f"{out}: {hole.sum():,} of {hole.size:,} pixels filled")
