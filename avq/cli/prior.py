"""A prior beside its autoencoder, for the verbs that take both."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avq.errors import InputError

if TYPE_CHECKING:
    from avq.apply.prior import Prior
    from avq.apply.tokenizer import Tokenizer

PriorOption = Annotated[
    Path | None, typer.Option(help="The run of a prior over the codes of the model.")
]


def opened_prior(prior: Path, tokenizer: "Tokenizer | None", step: int | None) -> "Prior":
    """A prior.

    Args:
        prior: its run.
        tokenizer: its autoencoder; None for the one of its run.
        step: of the autoencoder, which cannot be chosen.

    Raises:
        InputError: for a step, a folder that is no prior's, and another autoencoder.
    """
    from avq.apply.prior import load_prior

    if step is not None:
        raise InputError("--step: a prior goes with the newest step. Leave one of them out.")
    return load_prior(prior, tokenizer=tokenizer or "")
