"""Figures of `benchmarks.codecs`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from avq.evaluate.baselines.codecs import CODECS, nearest_file
from benchmarks._common import Row

# Mean PSNR in dB of Kodak's 24 pictures by bits a pixel, as published: VTM and AV1 in CompressAI's
# results/image/kodak, Cool-chic 5.0 in its results/v5.0/image-kodak.tsv; read off between points.
PUBLISHED = {
    "VTM": {0.06: 26.8, 0.09: 27.9, 0.114: 28.6, 0.156: 29.6, 0.25: 31.3, 0.5: 34.4},
    "Cool-chic 5.0": {0.09: 27.7, 0.114: 28.5, 0.156: 29.6, 0.25: 31.5, 0.5: 34.7},
    "AV1": {0.06: 25.8, 0.09: 27.0, 0.114: 27.7, 0.156: 28.7, 0.25: 30.5, 0.5: 33.7},
}
SHOWN = 3  # images of `draw_pictures`
SIDE = 256  # pixels of the part that is shown of an image


def draw_curves(file: Path, means: Sequence[Row], is_kodak: bool) -> None:
    """Draws mean PSNR and MS-SSIM by bits a pixel.

    Args:
        file: of the figure.
        means: a row for each codec and rate, see `benchmarks.codecs`.
        is_kodak: whether to draw what is published of Kodak's pictures, dashed.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("psnr", "ms_ssim"), strict=True):
        for codec in dict.fromkeys(row["codec"] for row in means):
            own = sorted(
                (row["bits_per_pixel"], row[key]) for row in means if row["codec"] == codec
            )
            style = "*" if codec.startswith("avq") else ".-"
            axes.plot(
                *zip(*own, strict=True), style, markersize=12 if style == "*" else 5, label=codec
            )
        if is_kodak and key == "psnr":
            for name, curve in PUBLISHED.items():
                axes.plot(
                    [*curve], [*curve.values()], "--", linewidth=1, label=f"{name} (published)"
                )
        axes.set(
            xscale="log", xlabel="bits a pixel", ylabel={"psnr": "PSNR, dB"}.get(key, "MS-SSIM")
        )
        axes.grid(alpha=0.2)
    figure.axes[1].legend(
        *figure.axes[0].get_legend_handles_labels(), fontsize="small", loc="lower right"
    )
    figure.savefig(file, dpi=110)


def draw_pictures(
    file: Path, models: Sequence[Any], images: Iterable[UInt8[np.ndarray, "_h _w 3"]]
) -> None:
    """Draws the middle of the first images, as they were and by each codec at the size of the first
    model's file.

    Args:
        file: of the figure.
        models: with `name`, `encode` and `decode`.
        images: to compress.
    """
    codecs = {name: codec for name, codec in CODECS.items() if codec.is_available()}
    columns = ["original", *(f"avq {model.name}" for model in models), *codecs]
    shown = [image for image, _ in zip(images, range(SHOWN), strict=False)]
    figure = Figure(figsize=(2.2 * len(columns), 2.4 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), len(columns), squeeze=False)
    for line, image in zip(grid, shown, strict=True):
        files = [model.encode(image) for model in models]
        made = [image, *(model.decode(each) for model, each in zip(models, files, strict=True))]
        sizes = [image.size, *map(len, files)]
        for codec in codecs.values():
            nearest = nearest_file(codec, image, len(files[0]))
            made.append(codec.decode(nearest.content))
            sizes.append(len(nearest.content))
        for axes, pixels, size, name in zip(line, made, sizes, columns, strict=True):
            axes.imshow(_middle(pixels))
            axes.set_title(f"{name}\n{size:,} bytes", fontsize="small")
            axes.axis("off")
    figure.savefig(file, dpi=110)


def _middle(image: UInt8[np.ndarray, "_h _w 3"]) -> UInt8[np.ndarray, "_s _t 3"]:
    top, left = (max(0, (side - SIDE) // 2) for side in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]
