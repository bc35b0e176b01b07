"""Codes of a run's training images, which its codec is fitted to."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, UInt8

from avq.apply.tokenizer import Tokenizer
from avq.apply.training_images import training_images
from avq.data.views import SquareView, TrainingView

CODES = 1 << 21  # of the finest level, at most


def training_codes(
    tokenizer: Tokenizer,
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda images: None,
) -> tuple[Int[np.ndarray, "b _h _w"], ...]:
    """Grids of codes of squares of the training images, as training crops and mirrors them, finest
    level first.

    Args:
        tokenizer: of the run.
        on_total: called with the number of squares.
        on_images: called as squares are encoded.

    Raises:
        InputError: when the images cannot be opened, or have changed since training.
    """
    data = tokenizer.trained.data
    reason = "the codec cannot be fitted without the run's training images"
    images = training_images(tokenizer, reason)
    size = tokenizer.image_size
    height, width = tokenizer.grids(size, size)[0]
    number = max(1, CODES // (height * width))
    if not images.source.augment:  # else every square is another one
        number = min(number, len(images) * (2 if data.flip or data.min_crop < 1 else 1))
    view = TrainingView(SquareView(size, images.source.augment, data.min_crop), data.flip)

    def squares() -> Iterator[UInt8[np.ndarray, "s s c"]]:
        rng = np.random.default_rng(0)
        for square in range(number):  # all of an image in a row
            yield view(images.nearest(square * len(images) // number), rng)["image"]

    on_total(number)
    each = []
    for codes in tokenizer.encode_each(squares()):
        each.append(codes)
        on_images(1)
    return tuple(np.stack(grids) for grids in zip(*each, strict=True))
