"""Codes of images that a prior completes, given some of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from avq import cpu
from avq.apply.prior import Prior
from avq.apply.tokenizer import Codes
from avq.errors import InputError
from avq.models.prior import Drawing, PriorModule


class Completion:
    """Draws missing codes given the others; compiled once for each number of images.

    Args:
        prior: to draw from.
        how: to draw.
    """

    def __init__(self, prior: Prior, how: Drawing) -> None:
        self.prior = prior
        options = cpu.compiler_options("inference")
        self._draw = jax.jit(drawing(prior.module, how), compiler_options=options)

    def __call__(
        self,
        start: Sequence[Any],
        seed: int,
        labels: Int[np.ndarray, "b"] | None = None,
        numbers: Int[np.ndarray, "b"] | None = None,
    ) -> Codes:
        """Codes of images.

        Args:
            start: grids `[b, h, w]`, finest level first, of images of the prior's size;
                `places.UNKNOWN` stands for a missing code.
            seed: of what is drawn.
            labels: numbers of their classes; None for no class.
            numbers: of the images, which what is drawn for each depends on, too; None for those of
                their rows.
        """
        rows = len(start[0])
        none = np.full(rows, self.prior.label(None))
        drawn = self._draw(
            self.prior.variables,
            {
                "start": tuple(np.asarray(grid, np.int32) for grid in start),
                "label": np.asarray(none if labels is None else labels, np.int32),
                "seed": np.full(rows, seed, np.uint32),
                "number": np.asarray(np.arange(rows) if numbers is None else numbers, np.uint32),
            },
        )
        return tuple(map(np.asarray, drawn))


def drawing(module: PriorModule, how: Drawing) -> Callable[[Any, Any], Any]:
    """`(variables, rows) -> codes`, which draws the missing codes of each row by itself.

    `rows` has arrays of `start`, the grids with `places.UNKNOWN` for missing codes, `label`, the
    number of the class, and `seed` and `number`, of which the PRNG key is made.
    """

    def key(seed: Array, number: Array) -> Array:
        return jax.random.fold_in(jax.random.key(seed), number)

    def draw(variables: Any, rows: Any) -> Any:
        keys = jax.vmap(key)(rows["seed"], rows["number"])
        return module.draw(variables, rows["start"], rows["label"], keys, how)

    return draw


def require_size(prior: Prior, size: tuple[int, ...]) -> None:
    """Refuses an image of another size than a prior's.

    Raises:
        InputError: saying so.
    """
    side = prior.tokenizer.image_size
    if size != (side, side):
        raise InputError(
            f"the prior models images of {side}x{side} pixels, and one has {size[1]}x{size[0]}. "
            "Crop or resize it."
        )
