"""Training images of a model's run."""

from avq.apply.tokenizer import Tokenizer
from avq.data.dataset import ImageSet, open_dataset
from avq.errors import InputError


def training_images(tokenizer: Tokenizer, reason: str) -> ImageSet:
    """Opens the images that a model was trained on.

    Args:
        tokenizer: of the model.
        reason: why they are needed, the beginning of an error.

    Raises:
        InputError: when they cannot be opened, or have changed since training.
    """
    try:
        return open_dataset(tokenizer.trained.data, tokenizer.trained.dataset).train
    except InputError as error:
        raise InputError(f"{reason}: {error}") from error
