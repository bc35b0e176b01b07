"""Dot patterns: regular errors that up-sampling draws into flat areas."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from avq.evaluate.metrics.base import About, Metric, Number, Value

BLOCK = 16  # side of a block, pixels; a multiple of the longest period
PERIOD = 4
FLAT = 0.04  # standard deviation up to which a block of the target is flat: 5 of 255 levels
LEAST = 1e-6  # variance below which there is nothing but rounding


class Shares(NamedTuple):
    """Shares of variance of flat blocks, summed over blocks and images.

    Attributes:
        total: sum of the shares at periods of 2 and 4 pixels.
        n: number of flat blocks.
    """

    total: Number
    n: Number


def flat_shares(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> Shares:
    """Share of the variance at periods of 2 and 4 pixels, summed over the flat blocks of each
    image: those of 16x16 pixels, from the top left corner on, where the target varies little.

    The best plane is taken away from each block before. What repeats every 4 pixels is the mean of
    a block's 4x4 cells. By Parseval's theorem its variance is the energy at the 15 frequencies that
    are multiples of 1/4 in both axes. Of white noise these hold 15/253 = 5.9 %.

    Args:
        images: pixels in [-1, 1], of at least 4x4.
        targets: originals.

    Returns:
        Numbers per image. A block of an image without variance has a share of 0.
    """
    flat = jnp.mean(_blocks(targets) ** 2, axis=(2, 3, 4)) <= FLAT**2
    blocks = _blocks(images)
    b, n, side, _, c = blocks.shape
    cells = blocks.reshape(b, n, side // PERIOD, PERIOD, side // PERIOD, PERIOD, c)
    periodic = jnp.mean(jnp.mean(cells, axis=(2, 4)) ** 2, axis=(2, 3, 4))
    share = periodic / jnp.maximum(jnp.mean(blocks**2, axis=(2, 3, 4)), LEAST)
    return Shares(jnp.sum(jnp.where(flat, share, 0.0), axis=1), jnp.sum(flat, axis=1))


def dots(images: Float[Array, "b h w c"], targets: Float[Array, "b h w c"]) -> float:
    """Mean share of the variance of flat blocks, 0 to 1, that repeats every 2 or 4 pixels, see
    `flat_shares`; NaN without flat blocks. That of the originals is `dots(targets, targets)`.
    """
    total, n = jax.tree.map(jnp.sum, flat_shares(images, targets))
    return float(total / n)


def _blocks(images: Float[Array, "b h w c"]) -> Float[Array, "b n s s c"]:
    """Blocks without their mean and slopes."""
    b, h, w, c = images.shape
    side = min(BLOCK, h // PERIOD * PERIOD, w // PERIOD * PERIOD)
    rows, columns = h // side, w // side
    cut = images[:, : rows * side, : columns * side]
    blocks = cut.reshape(b, rows, side, columns, side, c).swapaxes(2, 3)
    blocks = blocks.reshape(b, rows * columns, side, side, c)
    blocks = blocks - jnp.mean(blocks, axis=(2, 3), keepdims=True)
    ramp = jnp.arange(side) - (side - 1) / 2
    for slope in (ramp[:, None, None], ramp[None, :, None]):
        slope = slope[None, None]
        along = jnp.sum(blocks * slope, axis=(2, 3), keepdims=True)
        blocks = blocks - along / (side * jnp.sum(ramp**2)) * slope
    return blocks


class Dots(Metric[tuple[Shares, Shares]]):
    """Regular dots in flat areas, of reconstructions and of originals."""

    meaning: Mapping[str, str] = {
        "dots": "share of the variance of flat areas at periods of 2 and 4 pixels",
        "dots_of_inputs": "the same of the originals",
    }

    def batch(
        self,
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        codes: tuple[Int[Array, "b _h _w"], ...],
        mask: Bool[Array, "b"],
        about: About,
    ) -> tuple[Shares, Shares]:
        """Sums over the flat blocks of reconstructions and of originals."""

        def summed(images: Float[Array, "b h w c"]) -> Shares:
            shares = flat_shares(images, targets)
            return Shares(*(jnp.sum(jnp.where(mask, x, 0)) for x in shares))

        return summed(images), summed(targets)

    def summary(self, sums: tuple[Shares, Shares], about: About) -> dict[str, Value]:
        """The mean shares; none where no image has a flat block."""
        if not int(sums[0].n):
            return {}
        return {
            key: float(total) / int(n) for key, (total, n) in zip(self.meaning, sums, strict=True)
        }
