"""A trained model in a few words: images of any size to codes and back."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from avq import cpu
from avq.apply.inputs import as_batch, as_picture
from avq.apply.tiles import Tiling, reflected, tiling
from avq.data.views import centre_square
from avq.errors import InputError
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8
from avq.settings import settings_of
from avq.trained import TrainedModel, digest, load_model

log = logging.getLogger(__name__)

LARGEST = 512  # side of a square that is computed at once, pixels, unless training has larger ones
Codes: TypeAlias = tuple[Int[np.ndarray, "..."], ...]
Size: TypeAlias = tuple[int, int]


def load(
    what: str | Path, step: int | None = None, dtype: str | None = None, batch_size: int = 8
) -> "Tokenizer":
    """A trained model.

    Args:
        what: folder of a training run, or one that `avq export` wrote, or the `.safetensors` in it,
            or the name of a model that comes with avq, such as 'photos'.
        step: of the run's checkpoint; None for the newest.
        dtype: compute type of convolutions and attention, 'float32' or 'bfloat16'; None for that of
            training. Another one changes the codes of some places.
        batch_size: see `Tokenizer`.

    Raises:
        InputError: when it is none of these or damaged, has no such checkpoint, and for another
            dtype.

    Example:
        model = avq.load("runs/ah")
        codes = model.encode(images)
        images = model.decode(codes)
    """
    trained = load_model(what, step)
    if dtype is not None:
        if problem := settings_of(VQVAE)["dtype"].error(dtype):
            raise InputError(f"dtype={dtype!r} {problem}.")
        trained.model = trained.model.clone(dtype=dtype)
    return Tokenizer(trained, batch_size)


class Tokenizer:
    """Encodes images into grids of codes, and decodes them.

    An image is continued by its reflection to a square of one, two or four times `image_size` (one
    of up to 512 pixels), or cut into the largest of them, which overlap and fade into one another.
    Encoding and decoding compile at most four times each, and take as much memory for many images
    as for few.

    Attributes:
        trained: the restored model.
        batch_size: squares of `image_size` at a time; a quarter or a sixteenth as many larger ones.
    """

    def __init__(self, trained: TrainedModel, batch_size: int = 8) -> None:
        self.trained = trained
        self.batch_size = batch_size
        self._warned = False
        self._variables = jax.device_put(trained.variables)
        model: Any = trained.model
        compiled = partial(jax.jit, compiler_options=cpu.compiler_options("inference"))
        self._encode = compiled(lambda v, x: model.apply(v, x, method=VQVAE.encode))
        self._decode = compiled(lambda v, c: model.apply(v, c, method=VQVAE.decode))

    def __repr__(self) -> str:
        sizes = " and ".join(f"{size:,}" for size in self.codebook_sizes)
        grids = " and ".join(f"{h}x{w}" for h, w in self.grids(self.image_size, self.image_size))
        kind = "" if self.channels == 3 else f" of {self.channels} channels"
        return (
            f"Tokenizer(step {self.trained.step}, {self.image_size} pixels{kind} to {grids} of "
            f"{sizes} codes, {self.bits_per_pixel:.3g} bits a pixel)"
        )

    @property
    def image_size(self) -> int:
        """Side of the squares that the model was trained on, pixels."""
        size: int = self.trained.config["data"]["image_size"]
        return size

    @property
    def channels(self) -> int:
        """Channels of its images: 1 for grey, 3 for RGB, 4 for RGB with alpha."""
        return self.trained.model.channels

    @property
    def dimensions(self) -> int:
        """Values of an image of `image_size`, pixels times channels."""
        return self.channels * self.image_size**2

    @property
    def levels(self) -> int:
        """Grids of codes of an image: those that decoding reads."""
        return self.trained.model.decoded_levels()

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes of each level, finest first."""
        return self.trained.model.codebook_sizes()[: self.levels]

    @cached_property
    def codebooks(self) -> tuple[Float[np.ndarray, "_k _d"], ...]:
        """Vectors of each level's codes, finest first."""
        model: Any = self.trained.model
        tables = model.apply(self._variables, method=VQVAE.codebooks)
        return tuple(np.asarray(table) for table in tables[: self.levels])

    @property
    def bits_per_pixel(self) -> float:
        """Bits of an image's codes over its pixels, without entropy coding."""
        return self.trained.model.bits_per_pixel(self.image_size)

    @property
    def stride(self) -> int:
        """What sides of images are rounded up to a multiple of, pixels."""
        return self.trained.model.stride()

    @property
    def cells(self) -> tuple[int, ...]:
        """Side of a code by level, pixels, finest first."""
        finest = self.stride >> (self.trained.model.levels - 1)
        return tuple(finest << level for level in range(self.levels))

    @cached_property
    def digest(self) -> str:
        """Sixteen letters that change with any parameter, codebook or statistic of the model, and
        with its compute type.
        """
        return digest(self.trained.model, self.trained.variables)

    def grids(self, height: int, width: int) -> tuple[Size, ...]:
        """Height and width of each level's grid for an image, finest first."""
        down, across = (-(-length // self.stride) * self.stride for length in (height, width))
        return tuple((down // cell, across // cell) for cell in self.cells)

    def transform(self, image: Any) -> UInt8[np.ndarray, "s s c"]:
        """The square of an image that evaluation measures: its centre, at `image_size`.

        Args:
            image: bytes, as `encode` takes them.
        """
        return centre_square(as_picture(image, self.trained.data), self.image_size)

    def encode(self, images: Any) -> tuple[Int[np.ndarray, "b _h _w"], ...]:
        """Codes of images, finest level first, of the levels that decoding reads.

        Args:
            images: `[b, h, w, c]`, 0..255 as uint8 or [-1, 1] as floats, or `[b, h, w]` of grey
                ones. One `[h, w, c]` or `[h, w]`, a PIL image or a file is a batch of one. Where
                their channels are not the model's, grey is repeated, colours become their luma
                (ITU-R BT.601), transparent parts show white, and what has no alpha is opaque.
                Floats that are all in [0, 1] are taken as they are, with a warning, once.

        Raises:
            InputError: for another type, shape or range, and for a file that is no image.
        """
        batch = as_batch(images, self.trained.data)
        if not len(batch):
            shapes = ((0, *grid) for grid in self.grids(*batch.shape[1:3]))
            return tuple(np.zeros(shape, np.int32) for shape in shapes)
        each = list(self.encode_each(batch))
        return tuple(np.stack(grids) for grids in zip(*each, strict=True))

    def encode_each(self, images: Iterable[Any]) -> Iterator[Codes]:
        """Codes of images of any sizes, one after another: of each its grids `[h, w]`.

        Args:
            images: each as `encode` takes one. They are read as their turn comes.
        """
        return (codes for codes, _ in self.encode_sized(images))

    def encode_sized(self, images: Iterable[Any]) -> Iterator[tuple[Codes, Size]]:
        """`encode_each`, with the height and width of each image."""
        begun: deque[tuple[Tiling, Size]] = deque()

        def squares() -> Iterator[np.ndarray]:
            for image in images:
                pixels = self._floats(as_picture(image, self.trained.data))
                size = pixels.shape[:2]
                begun.append((self._tiling(*size), size))
                whole = reflected(pixels, *begun[-1][0].shape)
                yield from (whole[box] for box in begun[-1][0].boxes)

        codes = self._in_batches(self._encode, 1, squares())
        for first in codes:
            tiles, size = begun.popleft()
            own = [first, *itertools.islice(codes, len(tiles.boxes) - 1)]
            levels = zip(zip(*own, strict=True), self.cells, self.grids(*size), strict=True)
            yield tuple(tiles.joined(g, cell)[:h, :w] for g, cell, (h, w) in levels), size

    def decode(
        self, codes: Sequence[Any], size: Size | None = None
    ) -> UInt8[np.ndarray, "b h w c"]:
        """Images, 0..255, from the codes of `encode`: grids `[b, h, w]`, finest level first.

        Args:
            codes: grids.
            size: height and width of the images; None for all that the codes describe.

        Raises:
            InputError: for the wrong number of levels, grids that do not fit together, or codes
                that the codebook does not have.
        """
        grids = self._valid(codes, ndim=3)
        if not len(grids[0]):
            height, width = size or (side * self.cells[0] for side in grids[0].shape[1:])
            return np.zeros((0, height, width, self.channels), np.uint8)
        each = zip(zip(*grids, strict=True), itertools.repeat(size))
        return np.stack(list(self._decoded(each)))

    def decode_each(
        self, codes: Iterable[Sequence[Any]], sizes: Iterable[Size]
    ) -> Iterator[UInt8[np.ndarray, "_h _w c"]]:
        """Images of such sizes from codes of `encode_each`, one after another."""
        each = zip(codes, sizes, strict=True)
        return self._decoded((self._valid(grids, 2), size) for grids, size in each)

    def reconstruct(self, images: Any) -> UInt8[np.ndarray, "b h w c"]:
        """`decode(encode(images))`, of the size of the images."""
        batch = as_batch(images, self.trained.data)
        return self.decode(self.encode(batch), batch.shape[1:3])

    def reconstruct_each(self, images: Iterable[Any]) -> Iterator[UInt8[np.ndarray, "_h _w c"]]:
        """`reconstruct` of images of any sizes, one after another."""
        return self._decoded(self.encode_sized(images))

    def embed(self, images: Any) -> tuple[Float[np.ndarray, "b _h _w _d"], ...]:
        """Quantised vectors of images, finest level first: `lookup(encode(images))`."""
        return self.lookup(self.encode(images))

    def lookup(self, codes: Sequence[Any]) -> tuple[Float[np.ndarray, "..."], ...]:
        """Vectors of grids of codes, one array a level."""
        return tuple(table[grid] for table, grid in zip(self.codebooks, codes, strict=True))

    @property
    def sides(self) -> list[int]:
        """Sides of the squares that images become, pixels, in ascending order."""
        larger = (self.image_size * times for times in (2, 4))
        return [self.image_size, *(side for side in larger if side <= LARGEST)]

    def _tiling(self, height: int, width: int) -> Tiling:
        sides = self.sides
        side = next((side for side in sides if side >= max(height, width)), sides[-1])
        return tiling(height, width, side, self.stride)

    def _decoded(
        self, each: Iterable[tuple[Sequence[Any], Size | None]]
    ) -> Iterator[UInt8[np.ndarray, "_h _w c"]]:
        """Images of codes and sizes."""
        begun: deque[tuple[Tiling, Size]] = deque()

        def squares() -> Iterator[Codes]:
            for grids, size in each:
                whole: Any = [side * self.cells[0] for side in grids[0].shape]
                tiles = self._tiling(*whole)
                begun.append((tiles, size or tuple(whole)))
                levels = [
                    reflected(grid, *(length // cell for length in tiles.shape))
                    for grid, cell in zip(grids, self.cells, strict=True)
                ]
                for box in tiles.boxes:
                    cut = (
                        tuple(slice(side.start // cell, side.stop // cell) for side in box)
                        for cell in self.cells
                    )
                    yield tuple(grid[part] for grid, part in zip(levels, cut, strict=True))

        pixels = self._in_batches(self._decode, self.cells[0], squares())
        for first in pixels:
            tiles, (height, width) = begun.popleft()
            rest = itertools.islice(pixels, len(tiles.boxes) - 1)
            whole = tiles.blended(itertools.chain([first], rest))[:height, :width]
            yield to_uint8(whole)

    def _in_batches(
        self, function: Callable[..., Any], cell: int, squares: Iterator[Any]
    ) -> Iterator[Any]:
        """Results of a function for squares, so many of a size at a time as `batch_size` says; the
        last is repeated where there are fewer, unless it is alone.

        Args:
            function: of the variables and a batch.
            cell: pixels along a value of the squares' first array.
            squares: arrays or tuples of arrays.
        """

        def side(square: Any) -> int:
            return len(jax.tree.leaves(square)[0]) * cell

        for pixels, alike in itertools.groupby(squares, side):
            most = max(1, self.batch_size * self.image_size**2 // pixels**2)
            while some := list(itertools.islice(alike, most)):
                alone = len(some) == 1 and pixels == self.image_size
                filled = some if alone else some + some[-1:] * (most - len(some))
                batch = jax.tree.map(lambda *rows: np.stack(rows), *filled)
                result = jax.tree.map(np.asarray, function(self._variables, batch))
                yield from (jax.tree.map(lambda a, i=i: a[i], result) for i in range(len(some)))

    def _floats(self, pixels: np.ndarray) -> Float[np.ndarray, "h w c"]:
        """Pixels in [-1, 1], float32."""
        if pixels.dtype == np.uint8:
            return to_float(pixels)
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= -1 and high <= 1):  # also where they are NaN
            raise InputError(
                f"images are floats from {low:g} to {high:g}; give floats in [-1, 1], or uint8."
            )
        if low >= 0 and not self._warned:
            self._warned = True
            log.warning(
                "images are floats from %g to %g: 0 counts as grey and -1 as black. If theirs are "
                "in [0, 1], give 2 * images - 1.",
                low,
                high,
            )
        return pixels.astype(np.float32)

    def _valid(self, codes: Sequence[Any], ndim: int) -> list[Int[np.ndarray, "..."]]:
        """Grids of codes as int32, if they are some of this model."""
        grids = [np.asarray(grid) for grid in codes]
        if len(grids) != self.levels:
            raise InputError(
                f"{len(grids)} grids of codes given; this model decodes {self.levels}."
            )
        if grids[0].ndim != ndim or not all(np.issubdtype(g.dtype, np.integer) for g in grids):
            wanted = "[b, h, w]" if ndim == 3 else "[h, w]"
            raise InputError(f"codes are not grids {wanted} of integers.")
        for level, (grid, size) in enumerate(zip(grids, self.codebook_sizes, strict=True), start=1):
            *batch, height, width = grids[0].shape
            expected = (*batch, height >> level - 1, width >> level - 1)
            if grid.shape != expected:
                raise InputError(f"codes of level {level} are {grid.shape}, not {expected}.")
            if grid.size and not (grid.min() >= 0 and grid.max() < size):
                raise InputError(f"codes of level {level} are not all in 0..{size - 1}.")
        return [grid.astype(np.int32) for grid in grids]
