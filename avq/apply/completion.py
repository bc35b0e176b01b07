"""Codes of images that a prior completes, given some of them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from avq import cpu
from avq.apply.prior import Prior
from avq.apply.tokenizer import Codes
from avq.errors import InputError
from avq.models.prior import Drawing


class Completion:
    """Draws missing codes given the others; compiled once for each number of images.

    Args:
        prior: to draw from.
        how: to draw.
    """

    def __init__(self, prior: Prior, how: Drawing) -> None:
        self.prior = prior
        module = prior.module

        def draw(variables: Any, start: Any, labels: Any, numbers: Any, seed: Any) -> Any:
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(numbers)
            return module.draw(variables, start, labels, keys, how)

        self._draw = jax.jit(draw, compiler_options=cpu.compiler_options("inference"))

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
            tuple(np.asarray(grid, np.int32) for grid in start),
            np.asarray(none if labels is None else labels, np.int32),
            np.asarray(np.arange(rows) if numbers is None else numbers, np.uint32),
            np.uint32(seed),
        )
        return tuple(map(np.asarray, drawn))


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
