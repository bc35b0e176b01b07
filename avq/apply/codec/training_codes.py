"""Codes of a run's training images, which its codec is fitted to."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, UInt8

from avq.apply.tokenizer import Tokenizer
from avq.apply.training_images import training_images
from avq.data.dataset import ImageSet
from avq.data.views import SquareView, TrainingView

CODES = 1 << 21  # of the finest level, at most
SAMPLE = 16  # images whose sizes decide that of the squares


def training_codes(
    tokenizer: Tokenizer,
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda images: None,
) -> tuple[Int[np.ndarray, "b _h _w"], ...]:
    """Grids of codes of squares of the training images, mirrored as training mirrors them, finest
    level first. The squares are as large as the images and the tokenizer allow, since compressed
    images are seldom as small as those of training, and most of their codes lie off the border.

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
    shortest = _shortest(images)
    fitting = (side for side in tokenizer.sides if side <= shortest)
    size = max(fitting, default=tokenizer.image_size)
    height, width = tokenizer.grids(size, size)[0]
    number = max(1, CODES // (height * width))
    if not images.source.augment and data.min_crop == 1:  # else every square is another one
        number = min(number, len(images) * (1 + data.flip))
    smallest = max(data.min_crop, min(1.0, size / shortest))  # that is not enlarged
    view = TrainingView(SquareView(size, images.source.augment, smallest), data.flip)

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


def _shortest(images: ImageSet) -> int:
    """Shortest side of a sample of images, pixels."""
    number = min(SAMPLE, len(images))
    places = (place * len(images) // number for place in range(number))
    return int(min(side for place in places for side in images.nearest(place).shape[:2]))
