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
from avq.cli.prior import PriorOption, opened_prior
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
        "avq restore anomaly runs/ah faces/ -o maps/ --prior runs/prior --map surprisal",
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
        str,
        typer.Option("--map", help="What the pictures show: error, rarity, both or surprisal."),
    ] = "error",
    prior: PriorOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the scores of each image here.")
    ] = None,
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Maps where images are unlike usual ones: badly reconstructed, or of rare codes, or of codes
    that a prior did not expect.

    Values are standard deviations above the mean of usual images; maps are black from 0 down and
    brightest from 4 up. An image's score is its map's largest value.
    """
    from avq.apply.pictures import Pictures, require_folder, write_png
    from avq.apply.restore.anomaly import Anomalies, Maps, usual_images
    from avq.json_files import write_json
    from avq.pixels import heat

    if shown not in Maps._fields:
        raise InputError(f"--map: {shown!r} is not one of {', '.join(Maps._fields)}.")
    if shown == "surprisal" and prior is None:
        raise InputError("--map: surprisal needs the probabilities of a prior. Give --prior.")
    require_writable(json_file)
    tokenizer, pictures = opened(run, images, step, batch_size)
    known = Pictures(usual, tokenizer.trained.data) if usual else usual_images(tokenizer)
    likelihood = None if prior is None else opened_prior(prior, tokenizer, step)
    anomalies = Anomalies(tokenizer, known, likelihood)
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
    examples=(
        "avq restore inpaint runs/ah photo.png --mask hole.png -o filled.png",
        "avq restore inpaint runs/ah face.png --mask hole.png --prior runs/prior -o filled.png",
    ),
)
def inpaint(
    run: RunArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    *,
    mask: Annotated[Path, typer.Option(help="Image of its size, white where to fill.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A .png file.")],
    prior: PriorOption = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of the prior, as for avq sample. Default: 1.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the prior. Default: 1.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Of what the prior draws. Default: 0."),
    ] = None,
    step: StepOption = None,
) -> None:
    """Fills a hole of an image by what surrounds it and the model's codes, or by codes of a prior.

    Without a prior nothing is invented. A prior takes images of its own size.
    """
    from avq import cpu
    from avq.apply import inputs
    from avq.apply.completion import Completion
    from avq.apply.pictures import write_png
    from avq.apply.restore.inpaint import inpaint, inpaint_by_prior
    from avq.apply.tokenizer import load
    from avq.models.prior import Drawing

    require_png(out)
    given = {"temperature": temperature, "top_p": top_p, "seed": seed}
    for name, value in given.items():
        if value is not None and prior is None:
            raise InputError(f"--{name.replace('_', '-')} goes with --prior.")
    cpu.keep_memory()
    tokenizer = load(run, step)
    pixels, hole = inputs.opened(image, tokenizer.trained.data), inputs.opened(mask).mean(-1) > 127
    if prior is None:
        filled = inpaint(tokenizer, pixels, hole)
    else:
        how = Drawing(
            temperature=1.0 if temperature is None else temperature,
            top_p=1.0 if top_p is None else top_p,
        )
        completion = Completion(opened_prior(prior, tokenizer, step), how)
        filled = inpaint_by_prior(completion, pixels, hole, seed or 0)
    write_png(out.parent, out.name, filled)
    print(f"{out}: {hole.sum():,} of {hole.size:,} pixels filled")
