"""`avq encode`, `avq decode` and `avq reconstruct`."""

from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import RunArgument, StepOption, progress, require_writable, verb
from avq.cli.images import BatchOption, FolderOption, ImagesArgument, opened, write_each


@verb(
    "encode",
    examples=(
        "avq encode runs/ah photo.jpg -o codes.npz",
        "avq encode runs/ah faces/ 'more/*.png' -o codes.npz",
    ),
)
def encode(
    run: RunArgument,
    images: ImagesArgument,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="File of codes (.npz).")],
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Encodes images of any size into a file of codes."""
    from avq.apply.code_files import CodeFile, write_codes

    require_writable(out)
    tokenizer, pictures = opened(run, images, step, batch_size)
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
    out: FolderOption,
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Decodes a file of codes into images."""
    from avq import cpu
    from avq.apply.code_files import read_codes
    from avq.apply.pictures import require_distinct
    from avq.apply.tokenizer import load

    cpu.keep_memory()
    tokenizer = load(run, step, batch_size=batch_size)
    found = read_codes(codes, tokenizer)
    require_distinct(found.names)
    write_each(out, found.names, tokenizer.decode_each(found.codes, found.sizes))


@verb(
    "reconstruct",
    examples=(
        "avq reconstruct runs/ah photo.jpg -o reconstructed/",
        "avq reconstruct runs/ah faces/ -o reconstructed/ --sheet sheet.png",
    ),
)
def reconstruct(
    run: RunArgument,
    images: ImagesArgument,
    *,
    out: FolderOption,
    sheet: Annotated[
        Path | None, typer.Option(help="Picture of the first images above what became of them.")
    ] = None,
    step: StepOption = None,
    batch_size: BatchOption = 8,
) -> None:
    """Encodes and decodes images, and says how near the results are."""
    import itertools

    import jax.numpy as jnp
    import numpy as np

    from avq.apply.pictures import contact_sheet, require_folder, write_png
    from avq.evaluate.metrics.psnr import psnr
    from avq.pixels import to_float

    require_writable(sheet)
    tokenizer, pictures = opened(run, images, step, batch_size)
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
