"""Losses of the autoencoder and its discriminator: pure functions of arrays, in float32.

To add a term of the autoencoder's loss, write a function like `mae_over_var` in a file of its own
and add one line to `TERMS`; its weight is `loss.terms.NAME` in a config. A term that other code
adds to `TERMS` works the same way. For another adversarial loss see `avq.losses.adversarial`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Array, Float

from avq.errors import InputError
from avq.losses.adversarial import ADVERSARIAL
from avq.losses.perceptual import lpips
from avq.losses.reconstruction import mae_over_var, mse_over_var
from avq.models.vqvae import Reconstruction
from avq.settings import MAX_INT32, setting

__all__ = ["ADVERSARIAL", "TERMS", "Loss", "Term"]

# From outputs of the autoencoder, targets [b, h, w, c] in [-1, 1], and values that training does
# not change, such as 'pixel_variance', to the mean over the batch.
Term: TypeAlias = Callable[
    [Reconstruction, Float[Array, "b h w c"], Mapping[str, Any]], Float[Array, ""]
]
TERMS: dict[str, Term] = {
    "mae_over_var": mae_over_var,
    "mse_over_var": mse_over_var,
    "lpips": lpips,
}


@dataclass(frozen=True)
class Loss:
    """Settings of the losses; the defaults are those of Rivera and Hoyos (2023).

    Raises:
        InputError: for a weight of a term that is not in `TERMS`.
    """

    terms: Mapping[str, float] = setting(
        lambda: dict.fromkeys(TERMS, 0.0) | {"mae_over_var": 1.0},
        "weight of each term of the autoencoder's loss; 0, or no weight, leaves it out",
        low=0,
    )
    lpips_weights: str = setting(
        "", "file of LPIPS weights, or several joined by commas; for the term lpips", free=True
    )
    adversarial: str = setting("non_saturating", "adversarial loss", choices=ADVERSARIAL)
    adversarial_weight: float = setting(
        0.065, "weight of the adversarial loss; 0 trains without a discriminator", low=0
    )
    adversarial_adaptive: bool = setting(
        False, "whether that weight is times the ratio of the two losses' gradients (VQGAN)"
    )
    adversarial_start: int = setting(
        0, "step from which the adversarial losses count", low=0, high=MAX_INT32
    )
    r1: float = setting(
        0.0, "weight of the squared gradient of the discriminator's logits on real images", low=0
    )
    lecam: float = setting(
        0.0,
        "weight of the squared distances of the discriminator's logits to the average ones of the "
        "other side (LeCam)",
        low=0,
    )
    feature_matching: float = setting(
        0.0,
        "weight of the absolute differences of the discriminator's features of images and "
        "reconstructions, in the autoencoder's loss",
        low=0,
    )
    quantization_start: int = setting(
        0,
        "step from which latents are replaced by codes; before it the decoder reads latents, which "
        "the codebooks follow",
        low=0,
        high=MAX_INT32,
    )

    def __post_init__(self) -> None:
        for name in self.terms:
            if name not in TERMS:
                raise InputError(
                    f"loss.terms.{name}: there is no such term. Use one of: {', '.join(TERMS)}."
                )
