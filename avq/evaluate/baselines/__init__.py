"""Classical baselines of a model: patch k-means at its own bits, image files of its codes' size."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, UInt8

from avq.data.dataset import ImageSet, Summary, evenly, open_dataset
from avq.data.settings import Data
from avq.data.views import Degradation, centre_square
from avq.errors import InputError
from avq.evaluate.baselines.codecs import CODECS, Codec, nearest_files
from avq.evaluate.baselines.patch_kmeans import (
    Codebooks,
    PatchQuantizer,
    patch_codebooks,
    training_views,
)
from avq.evaluate.evaluation import Evaluator
from avq.evaluate.metrics.psnr import psnr
from avq.evaluate.metrics.ssim import ssim
from avq.evaluate.results import Results
from avq.models.vqvae import VQVAE
from avq.pixels import to_float
from avq.settings import construct

log = logging.getLogger("avq")

# Codebooks of patches for grids and codebook sizes, both finest level first.
Fit: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...]], Codebooks]

EQUAL_BITS = "patch_kmeans"  # the one that a model has to beat
CODED = 100  # images, evenly spaced, that codecs are measured on


@dataclass(frozen=True)
class Baseline:
    """Figures of a baseline, and the model's on the same images.

    Attributes:
        psnr, ssim: means over images, as `avq eval` measures a model.
        bits_per_pixel: of the codes, or of the files with their headers.
        n: number of images.
        model_psnr: that of the model over these images.
        above: number of images that a codec has no file of as small as the model's codes; their
            smallest files count.
    """

    psnr: float
    ssim: float
    bits_per_pixel: float
    n: int
    model_psnr: float
    above: int = 0


def training_codebooks(data: Mapping[str, Any], dataset: Mapping[str, Any]) -> Fit:
    """K-means of patches of a run's training views. The views are read at once; codebooks are
    computed when they are first asked for, and kept: runs of the same data can share the function.

    Args:
        data: section of the run's config.
        dataset: content of its `dataset.json`.

    Raises:
        InputError: where the run's images are missing or changed, and for a run whose model sees
            degraded ones, which is another task than the baselines'.
    """
    if degradation := construct(Degradation, data):
        raise InputError(
            f"the model of this run restores degraded images ({degradation}), and the baselines "
            "compress clean ones. Leave out --baselines."
        )
    section = construct(Data, data)
    train = open_dataset(section, dataset).train
    return cache(partial(patch_codebooks, training_views(train, section)))


def measure_baselines(
    model: VQVAE,
    results: Results,
    images: ImageSet,
    summary: Summary,
    fit: Fit,
    mesh: Mesh,
    batch_size: int,
) -> dict[str, Baseline]:
    """Measures the baselines of a model on the images that it was measured on.

    `patch_kmeans` has the grids and codebook sizes that the model's decoder reads, so the same
    bits; beside it stand, where they differ, its finest level alone and the residual one of all
    the model's levels, at bits of their own. JPEG, WebP, JPEG 2000 and AVIF follow, each at the
    file size nearest to the model's codes, on up to 100 of the images. Codecs that Pillow was
    built without, or that have no alpha where the images do, are left out, with a warning.

    Args:
        model: the autoencoder.
        results: its own.
        images: those of `results`.
        summary: of the training images.
        fit: codebooks, see `training_codebooks`.
        mesh: devices that a batch is split over.
        batch_size: a multiple of the number of devices.
    """
    baselines = {}
    for name, quantizer in _patch_quantizers(model, summary.size).items():
        variables = {"codebooks": fit(quantizer.grids, quantizer.sizes)}
        measured = Evaluator(quantizer, mesh).evaluate(variables, images, summary, batch_size)
        baselines[name] = Baseline(
            _mean(measured, "psnr"),
            _mean(measured, "ssim"),
            quantizer.bits_per_pixel(summary.size),
            len(measured.rows),
            _mean(results, "psnr"),
        )
    chosen = evenly(len(results.rows), CODED)
    squares = [
        centre_square(images.nearest(row), summary.size) for row in results.rows[chosen].tolist()
    ]
    bits, model_psnr = model.bits_per_pixel(summary.size), _mean(results, "psnr", chosen)
    for name, codec in CODECS.items():
        if not codec.is_available():
            log.warning("%s is left out: this Pillow was built without it", name)
        elif images.channels not in codec.channels:
            log.warning("%s is left out: it cannot store %d channels", name, images.channels)
        else:
            baselines[name] = _measure_codec(codec, squares, bits, model_psnr)
    return baselines


def table(baselines: Mapping[str, Baseline]) -> Iterator[str]:
    """Lines of a table of baselines, and of what it means in words."""
    columns = ("bits/pixel", "psnr", "ssim", "model's psnr", "images")
    yield f"{'baseline':<24}" + "".join(f"{column:>14}" for column in columns)
    for name, of in baselines.items():
        figures = (of.bits_per_pixel, of.psnr, of.ssim, of.model_psnr)
        yield f"{name:<24}" + "".join(f"{figure:14.4f}" for figure in figures) + f"{of.n:14}"
    yield "Sizes of files include their headers."
    for name, of in baselines.items():
        if of.above:
            yield (
                f"{name}: {of.above} of {of.n} images have no file as small as the model's codes; "
                "their smallest counts."
            )
    if sentence := behind(baselines):
        yield sentence


def behind(baselines: Mapping[str, Baseline]) -> str:
    """Says that a model does not beat patch k-means; empty where it does."""
    of = baselines[EQUAL_BITS]
    if of.model_psnr > of.psnr:
        return ""
    return (
        "The model is behind patch k-means at equal bits: "
        f"{of.model_psnr:.2f} against {of.psnr:.2f} dB."
    )


def _patch_quantizers(model: VQVAE, size: int) -> dict[str, PatchQuantizer]:
    grids, sizes, sent = model.grids(size), model.codebook_sizes(), model.decoded_levels()
    levels = {EQUAL_BITS: sent}
    others = {"patch_kmeans_one_level": 1, "patch_kmeans_residual": len(grids)}
    levels |= {name: count for name, count in others.items() if count != sent}
    return {name: PatchQuantizer(grids[:n], sizes[:n]) for name, n in levels.items()}


def _mean(results: Results, key: str, chosen: Sequence[int] | slice = slice(None)) -> float:
    """Mean of a metric over images, those `chosen` of the results' rows."""
    return float(results.per_image[key][chosen].mean(dtype=np.float64))


def _measure_codec(
    codec: Codec, squares: Sequence[UInt8[np.ndarray, "s s c"]], bits: float, model_psnr: float
) -> Baseline:
    """Measures a codec at the file size nearest to `bits` a pixel."""
    side, _, channels = squares[0].shape
    pixels = side**2
    size, above = 0, 0
    values = []
    for square, file in zip(squares, nearest_files(codec, squares, bits * pixels / 8), strict=True):
        size, above = size + len(file.content), above + file.above
        made = codec.decode(file.content, channels)
        pair = (jnp.asarray(image)[None] for image in (made, square))
        values.append(_psnr_ssim(*pair))
    n = len(squares)
    psnr_, ssim_ = np.mean(np.array(values, np.float64), axis=(0, 2))
    return Baseline(float(psnr_), float(ssim_), 8 * size / (n * pixels), n, model_psnr, above)


@jax.jit
def _psnr_ssim(images: UInt8[Array, "b h w c"], targets: UInt8[Array, "b h w c"]) -> Any:
    pair = to_float(images), to_float(targets)
    return psnr(*pair), ssim(*pair)
