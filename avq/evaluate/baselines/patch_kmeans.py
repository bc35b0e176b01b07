"""Patch k-means: residual vector quantisation of raw patches by textbook codebooks.

Source: Lloyd (1982), "Least squares quantization in PCM"; residual (multi-stage) codebooks after
Juang and Gray (1982), "Multiple stage vector quantization for speech coding".
"""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

from avq.data.dataset import ImageSet
from avq.data.pipeline import prefetch, train_batches
from avq.data.settings import Data
from avq.models.quantizers.base import CodebookStatistics, Quantized, code_counts
from avq.models.quantizers.search import nearest_code
from avq.models.vqvae import Reconstruction

Codebooks: TypeAlias = tuple[Float[np.ndarray, "_k _d"], ...]  # finest level first

SEED = 0
VIEWS, VIEW_BYTES = 5_600, 2**28  # at most, of a sample of training views
PATCHES, VALUES = 150_000, 2**26  # at most, of a sample of patches
ROUNDS = 25


@dataclass(frozen=True)
class PatchQuantizer:
    """Residual quantiser of raw patches, an `avq.evaluate.evaluation.Model` of the variable
    'codebooks': the coarsest patches first, then what is left of the image in finer ones.

    Attributes:
        grids: side of each level's grid of patches, finest first.
        sizes: number of codes by level.
    """

    grids: tuple[int, ...]
    sizes: tuple[int, ...]

    def apply(
        self, variables: Mapping[str, Any], /, *arguments: Array, method: str | None = None
    ) -> Any:
        """`Reconstruction` of images `[b, h, w, c]` in [-1, 1]; by the method 'codebooks', the
        patches `[k, d]` of each level's codes, finest first.
        """
        codebooks = variables["codebooks"]
        if method == "codebooks":
            return codebooks
        (images,) = arguments
        residual, levels = images, []
        for grid, codebook in zip(self.grids[::-1], codebooks[::-1], strict=True):
            patches = to_patches(residual, images.shape[1] // grid)
            codes = nearest_code(patches, codebook)
            residual = residual - from_patches(codebook[codes], *images.shape[2:])
            square = (len(images), grid, grid)
            vectors, counts = (
                codebook[codes].reshape(*square, -1),
                code_counts(codes, len(codebook)),
            )
            statistics = CodebookStatistics(counts)
            levels.append(Quantized(vectors, codes.reshape(square), jnp.zeros(()), statistics))
        return Reconstruction(images - residual, tuple(levels[::-1]))

    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes by level, finest first."""
        return self.sizes

    def decoded_levels(self) -> int:
        """Number of levels: decoding reads all of them."""
        return len(self.grids)

    def bits_per_pixel(self, image_size: int) -> float:
        """Bits of the codes over pixels, at `log2(k)` each."""
        bits = sum(g**2 * math.log2(k) for g, k in zip(self.grids, self.sizes, strict=True))
        return bits / image_size**2


def training_views(images: ImageSet, data: Data) -> UInt8[np.ndarray, "n s s c"]:
    """The first 5,600 squares, or as many as fit in 256 MiB, that training draws with seed 0:
    cropped, mirrored and coloured as `data` says.
    """
    views = max(1, min(VIEWS, VIEW_BYTES // (data.channels * data.image_size**2)))
    batch_size = min(100, views)  # a view is the same in a batch of any size
    batches = train_batches(images, replace(data, batch_size=batch_size), seed=SEED)
    with closing(prefetch(batches, 0)) as stream:
        whole = [batch["image"] for batch in islice(stream, -(-views // batch_size))]
    return np.concatenate(whole)[:views]


def patch_codebooks(
    views: UInt8[np.ndarray, "n s s c"], grids: tuple[int, ...], sizes: tuple[int, ...]
) -> Codebooks:
    """K-means codebooks of the patches of images, and of their residuals from level to level.

    Each level is fitted to a sample of 150,000 patches, or as many as fit in 256 MiB: of the
    images at the coarsest, else of what the level above leaves of its own sample.

    Args:
        views: training images, see `training_views`.
        grids: side of each level's grid of patches, finest first.
        sizes: number of codes by level.

    Returns:
        Patches `[k, d]` in [-1, 1], or residuals of patches, by level, finest first.
    """
    rng = np.random.default_rng(SEED)
    size, channels = views.shape[2:]
    residual = _draw(views, size // grids[-1], rng)
    codebooks: list[np.ndarray] = []
    for grid, k in zip(grids[::-1], sizes[::-1], strict=True):
        side = size // grid
        patches = to_patches(residual, side)
        patches = patches[_rows(len(patches), channels * side**2, rng)]
        codebook = kmeans(patches, k, rng)
        patches = patches - codebook[np.asarray(_nearest(patches, codebook))]
        residual = patches.reshape(-1, side, side, channels)
        codebooks.append(codebook)
    return tuple(codebooks[::-1])


def kmeans(
    points: Float[np.ndarray, "n d"], k: int, rng: np.random.Generator, rounds: int = ROUNDS
) -> Float[np.ndarray, "k d"]:
    """Lloyd's algorithm, from `k` different points, for `rounds` rounds or until nothing moves.

    A centre that no point is nearest to becomes a random point. Where there are fewer than `k`
    different points, the centres are all of them, some more than once.
    """
    centres = _distinct(points, k, rng)
    on_device = jax.device_put(points)
    for _ in range(rounds):
        means, counts = (np.asarray(a) for a in _means(on_device, centres))
        moved = np.where(counts[:, None] > 0, means, points[rng.integers(len(points), size=k)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


_nearest = jax.jit(nearest_code)


@jax.jit
def _means(
    points: Float[Array, "n d"], centres: Float[Array, "k d"]
) -> tuple[Float[Array, "k d"], Float[Array, "k"]]:
    """Mean and number of the points that each centre is nearest to."""
    codes = nearest_code(points, centres)
    counts = code_counts(codes, len(centres))
    sums = jnp.zeros_like(centres).at[codes].add(points)
    return sums / jnp.maximum(counts, 1)[:, None], counts


def to_patches(images: Shaped[Any, "b s s c"], side: int) -> Shaped[Any, "n d"]:
    """Cuts images into patches of `side` pixels, row by row."""
    b, s, _, c = images.shape
    grid = s // side
    cut = images.reshape(b, grid, side, grid, side, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(-1, side * side * c)


def from_patches(
    patches: Shaped[Any, "n d"], size: int, channels: int
) -> Shaped[Any, "b {size} {size} {channels}"]:
    """Inverse of `to_patches` for images of `size` pixels a side."""
    side = math.isqrt(patches.shape[1] // channels)
    grid = size // side
    cut = patches.reshape(-1, grid, grid, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(-1, size, size, channels)


def _draw(
    views: UInt8[np.ndarray, "n s s c"], side: int, rng: np.random.Generator
) -> Float[np.ndarray, "m p p c"]:
    """Random patches of `side` pixels, in [-1, 1]."""
    n, size, _, channels = views.shape
    grid = size // side
    rows = _rows(n * grid**2, channels * side**2, rng)
    image, top, left = np.unravel_index(rows, (n, grid, grid))
    cut = views.reshape(n, grid, side, grid, side, channels)[image, top, :, left]
    return cut.astype(np.float32) / np.float32(127.5) - 1


def _rows(n: int, d: int, rng: np.random.Generator) -> Int[np.ndarray, "m"]:
    """Rows of a sample of `n` points of `d` values, in order; all of them where they are few."""
    wanted = min(n, PATCHES, VALUES // d)
    return np.arange(n) if wanted == n else np.sort(rng.choice(n, wanted, replace=False))


def _distinct(
    points: Float[np.ndarray, "n d"], k: int, rng: np.random.Generator
) -> Float[np.ndarray, "k d"]:
    """`k` random points of different values; all different ones, repeated, where they are fewer."""
    rows: dict[bytes, int] = {}
    for row in rng.permutation(len(points)):
        rows.setdefault(points[row].tobytes(), row)
        if len(rows) == k:
            break
    return np.resize(points[list(rows.values())], (k, points.shape[1]))
