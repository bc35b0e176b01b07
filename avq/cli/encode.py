"""`avq encode`, `avq decode` and `avq reconstruct`."""

from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import RunArgument, StepOption, progress, require_writable, verb

Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGES...", help="Image files, patterns, folders, .zip files."),
]
Batch = Annotated[int, typer.Option(min=1, help="Squares at a time.")]


@verb(
    "encode",
    examples=(
        "avq encode runs/ah photo.jpg -o codes.npz",
        "avq encode runs/ah faces/ 'more/*.png' -o codes.npz",
    ),
)
def encode(
    run: RunArgument,
    images: Images,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="File of codes (.npz).")],
    step: StepOption = None,
    batch_size: Batch = 8,
) -> None:
    """Encodes images of any size into a file of codes."""
    from avq import cpu
    from avq.apply.code_files import CodeFile, write_codes
    from avq.apply.pictures import Pictures
    from avq.apply.tokenizer import load

    require_writable(out)
    cpu.keep_memory()
    tokenizer, pictures = load(run, step, batch_size=batch_size), Pictures(images)
    found = CodeFile(pictures.names, [], [])
    with progress() as (on_total, on_images):
        on_total(len(pictures))
        for codes, size in tokenizer.encode_sized(pictures):
            found.codes.append(codes)
            found.sizes.append(size)
            on_images(1)
    write_codes(out, found, tokenizer)
    pixels = sum(height * width for height, width in found.sizes)
    kind = f"{pixels:,} pixels at {tokenizer.bits_per_pixel:.3g} bits each"
    print(f"{out}: codes of {len(pictures):,} images, {kind}")


@verb(
    "decode",
    examples=(
        "avq decode runs/ah codes.npz -o decoded/",
        "avq decode runs/ah codes.npz -o decoded/ --step 1000",
    ),
)
def decode(
    run: RunArgument,
    codes: Annotated[Path, typer.Argument(help="File that avq encode wrote.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for .png files.")],
    step: StepOption = None,
    batch_size: Batch = 8,
) -> None:
    """Decodes a file of codes into images."""
    from avq import cpu
    from avq.apply.code_files import read_codes
    from avq.apply.pictures import require_distinct, require_folder, write_png
    from avq.apply.tokenizer import load

    cpu.keep_memory()
    tokenizer = load(run, step, batch_size=batch_size)
    found = read_codes(codes, tokenizer)
    require_distinct(found.names)
    require_folder(out)
    with progress() as (on_total, on_images):
        on_total(len(found.names))
        images = tokenizer.decode_each(found.codes, found.sizes)
        for name, pixels in zip(found.names, images, strict=True):
            write_png(out, name, pixels)
            on_images(1)
    print(f"{out}: {len(found.names):,} images")


@verb(
    "reconstruct",
    examples=(
        "avq reconstruct runs/ah photo.jpg -o reconstructed/",
        "avq reconstruct runs/ah faces/ -o reconstructed/ --sheet sheet.png",
    ),
)
def reconstruct(
    run: RunArgument,
    images: Images,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for .png files.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Picture of the first images above what became of them.")
    ] = None,
    step: StepOption = None,
    batch_size: Batch = 8,
) -> None:
    """Encodes and decodes images, and says how near the results are."""
    import itertools

    import jax.numpy as jnp
    import numpy as np

    from avq import cpu
    from avq.apply.pictures import Pictures, contact_sheet, require_folder, write_png
    from avq.apply.tokenizer import load
    from avq.evaluate.metrics.psnr import psnr
    from avq.pixels import to_float

    require_writable(sheet)
    cpu.keep_memory()
    tokenizer, pictures = load(run, step, batch_size=batch_size), Pictures(images)
    require_folder(out)
    shown: list[tuple[np.ndarray, np.ndarray]] = []
    ratios: list[float] = []
    given, encoded = itertools.tee(pictures)  # each is read once
    with progress() as (on_total, on_images):
        on_total(len(pictures))
        results = tokenizer.reconstruct_each(encoded)
        for name, image, pixels in zip(pictures.names, given, results, strict=True):
            write_png(out, name, pixels)
            made, wanted = (jnp.asarray(to_float(each))[None] for each in (pixels, image))
            ratios.append(float(psnr(made, wanted)[0]))
            shown += [(image, pixels)] if sheet and len(shown) < 8 else []
            on_images(1)
    if sheet:
        contact_sheet(sheet, shown)
    each = f"psnr {np.mean(ratios):.2f} dB, mean of their own" if ratios else "none"
    print(f"{out}: {len(pictures):,} images, {each}")
