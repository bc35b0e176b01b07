"""What a report shows of a model beside its measures: example images, levels, attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from avq.data.dataset import ImageSet, evenly
from avq.data.views import CLEAN, Degradation, centre_square
from avq.evaluate.ablation import Ablation, ablate
from avq.evaluate.attention_maps import LevelAttention, attention_maps
from avq.evaluate.results import Results
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8

EACH = 3  # of the best, the median and the worst images
# Pixels of all images that levels are replaced in, so that it takes a minute at any size: 256
# images of 64x64, 32 of 256x256.
PIXELS, MOST = 2**21, 256
PLACES = ((0.5, 0.5), (0.25, 0.3), (0.7, 0.75))  # of pixels whose attention is shown: down, across


@dataclass(frozen=True)
class Example:
    """An image, its reconstruction and its codes.

    Attributes:
        group: 'best', 'median' or 'worst'.
        name: of the image in its source.
        image, reconstruction: 0..255.
        codes: grids by level, finest first, those of unsent levels too.
        figures: of this image, by key.
        attention: of the chosen pixels by level, finest first; empty without attention.
    """

    group: str
    name: str
    image: UInt8[np.ndarray, "s s c"]
    reconstruction: UInt8[np.ndarray, "s s c"]
    codes: tuple[Int[np.ndarray, "_h _w"], ...]
    figures: dict[str, float]
    attention: tuple[Float[np.ndarray, "p _h _w"], ...]


@dataclass(frozen=True)
class Inside:
    """Inside of a model.

    Attributes:
        examples: best first.
        ablation: what each level carries.
        row_sums: sums of the rows of W of the examples by level, finest first; empty without
            attention.
        codebook_sizes: number of codes by level.
    """

    examples: tuple[Example, ...]
    ablation: Ablation
    row_sums: tuple[Float[np.ndarray, "_r"], ...]
    codebook_sizes: tuple[int, ...]


def look_inside(
    model: VQVAE,
    variables: Mapping[str, Any],
    images: ImageSet,
    results: Results,
    image_size: int,
    degradation: Degradation = CLEAN,
) -> Inside:
    """Collects what a report shows of a model.

    Args:
        model, variables: the autoencoder.
        images: those of `results`.
        results: of its evaluation; examples are chosen by psnr.
        image_size: side of the squares, pixels.
        degradation: of the model's input.
    """

    def squares(chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, as `avq.data.pipeline.eval_batches` makes them."""
        rows = results.rows[chosen].tolist()
        targets = [centre_square(images.nearest(row), image_size) for row in rows]
        draws = map(np.random.default_rng, rows)
        inputs = [degradation(*pair) for pair in zip(targets, draws, strict=True)]
        return np.stack(inputs), np.stack(targets)

    groups = choose(results.per_image["psnr"])
    chosen = [index for indices in groups.values() for index in indices]
    shown, targets = squares(chosen)
    attention = attention_maps(model, variables, shown, PLACES)
    wanted = min(MOST, max(1, PIXELS // image_size**2))
    ablation = ablate(model, variables, *squares(evenly(len(results.rows), wanted)))
    examples = _examples(model, variables, shown, targets, attention)
    names = [images.source.name(row) for row in results.rows[chosen].tolist()]
    labels = [group for group, indices in groups.items() for _ in indices]
    return Inside(
        tuple(
            Example(
                label,
                name,
                figures={key: float(v[index]) for key, v in results.per_image.items()},
                **parts,
            )
            for label, name, index, parts in zip(labels, names, chosen, examples, strict=True)
        ),
        ablation,
        tuple(level.row_sums.ravel() for level in attention),
        model.codebook_sizes(),
    )


def choose(psnr: Float[np.ndarray, "n"], each: int = EACH) -> dict[str, list[int]]:
    """Indices of the best, median and worst images, best first; fewer of each where there are fewer
    than three times as many images, and none twice.
    """
    order: list[int] = np.argsort(-psnr, kind="stable").tolist()
    n = len(order)
    k = min(each, max(1, n // 3))
    middle = (n - k + 1) // 2
    groups = {"best": order[:k], "median": order[middle : middle + k], "worst": order[n - k :]}
    if n >= 3:
        return groups
    return {"best": order[:1], "worst": order[1:]} if n == 2 else {"best": order}


def _examples(
    model: VQVAE,
    variables: Mapping[str, Any],
    inputs: UInt8[np.ndarray, "n s s c"],
    targets: UInt8[np.ndarray, "n s s c"],
    attention: tuple[LevelAttention, ...],
) -> list[dict[str, Any]]:
    """Target, reconstruction, codes and attention of each image."""
    module: Any = model

    def reconstruct(variables: Any, images: UInt8[Array, "n s s c"]) -> Any:
        out = module.apply(variables, to_float(images))
        return to_uint8(out.images), [level.codes for level in out.levels]

    reconstructions, codes = jax.device_get(jax.jit(reconstruct)(variables, inputs))
    return [
        {
            "image": target,
            "reconstruction": reconstructions[i],
            "codes": tuple(grids[i] for grids in codes),
            "attention": tuple(level.maps[i] for level in attention),
        }
        for i, target in enumerate(targets)
    ]
