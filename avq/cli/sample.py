"""`avq sample`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import StepOption, progress, resumable, verb
from avq.errors import InputError


@verb(
    "sample",
    examples=(
        "avq sample runs/prior -n 64 -o samples",
        "avq sample runs/prior -n 16 --temperature 0.9 --top-p 0.95 --seed 7 -o samples",
    ),
)
def sample(
    prior: Annotated[
        Path, typer.Argument(metavar="PRIOR", help="The --workdir of a training of a prior.")
    ],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for .png files.")],
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Images to draw.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0, help="Below 1: likelier codes; 0: the likeliest.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Among so many codes; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Among codes of this probability together.")
    ] = 1.0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds a level, of a masked prior. Default: 8."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="Weight of the class; 1: none but its own, above: more.")
    ] = 1.0,
    label: Annotated[
        str | None, typer.Option(help="Name of a class. Default: all classes in turns.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the images.")] = 0,
    step: StepOption = None,
    tokenizer: Annotated[str, typer.Option(help="The autoencoder's run, where it has moved.")] = "",
) -> None:
    """Draws images from a prior, and writes them with a grid of the first 64.

    The same seed gives the same images, however many and on however many devices. The same command
    continues after an interruption.
    """
    from avq import cpu
    from avq.apply.prior import load_prior
    from avq.apply.sample import GRID
    from avq.apply.sample import sample as sample_images
    from avq.models.prior import Drawing

    cpu.keep_memory()
    loaded = load_prior(prior, step, tokenizer)
    how = Drawing(temperature, top_k, top_p, guidance)
    if steps is not None:
        if loaded.module.exact:
            raise InputError("--steps: this prior draws one code after another. Leave it out.")
        how = replace(how, steps=steps)
    with resumable(), progress() as (on_total, on_images):
        sample_images(
            loaded,
            out,
            number,
            how=how,
            seed=seed,
            label=label,
            on_total=on_total,
            on_images=on_images,
        )
    print(f"{out}: {number:,} images of step {loaded.step}; grid: {out / GRID}")
