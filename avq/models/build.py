"""Builds the networks from the sections of a config."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from avq.errors import InputError
from avq.models.discriminator import Discriminator
from avq.models.prior import PRIORS, PriorModule
from avq.models.prior.places import Grids
from avq.models.quantizers import QUANTIZERS
from avq.models.vqvae import VQVAE
from avq.settings import construct, setting


@dataclass(frozen=True)
class QuantizerChoice:
    """The setting that chooses the class of the quantisers."""

    quantizer: str = setting("ema", "how latents become codes", choices=QUANTIZERS)


@dataclass(frozen=True)
class PriorChoice:
    """The setting that chooses the class of a prior."""

    kind: str = setting("transformer", "how codes are predicted", choices=PRIORS)


def model_kinds() -> tuple[type, ...]:
    """Classes whose settings make up the section 'model': the autoencoder and every quantiser that
    is registered at the time of the call.
    """
    return VQVAE, QuantizerChoice, *QUANTIZERS.values()


def make_autoencoder(
    model: Mapping[str, Any], axis_name: str | None = None, channels: int = 3
) -> VQVAE:
    """The autoencoder of a config.

    Args:
        model: the section 'model', as `avq.settings.construct` takes it.
        axis_name: mapped axis over which a batch is split in training; None for one device.
        channels: of the images, see `avq.data.settings.Data`.
    """
    quantizer = QUANTIZERS[construct(QuantizerChoice, model).quantizer]
    make_quantizer = partial(construct, quantizer, dict(model), axis_name=axis_name)
    others = {"make_quantizer": make_quantizer, "axis_name": axis_name, "channels": channels}
    return construct(VQVAE, model, **others)


def make_discriminator(
    discriminator: Mapping[str, Any], model: Mapping[str, Any], axis_name: str | None = None
) -> Discriminator:
    """The discriminator of a config.

    Args:
        discriminator: the section 'discriminator'.
        model: the section 'model', whose compute type and scope of batch norm it shares.
        axis_name: mapped axis over which a batch is split in training; None for one device.
    """
    vqvae = construct(VQVAE, model)
    norm_axis = axis_name if vqvae.sync_batch_norm else None
    return construct(Discriminator, discriminator, dtype=vqvae.dtype, axis_name=norm_axis)


def prior_kinds() -> tuple[type, ...]:
    """Classes whose settings make up the section 'model' of a prior's config."""
    return PriorChoice, *PRIORS.values()


def make_prior(
    model: Mapping[str, Any], grids: Grids, codebook_sizes: tuple[int, ...], classes: int
) -> PriorModule:
    """The prior of a config.

    Args:
        model: the section 'model', as `avq.settings.construct` takes it.
        grids, codebook_sizes, classes: see `PriorModule`.
    """
    kind = PRIORS[construct(PriorChoice, model).kind]
    prior: PriorModule = construct(
        kind, model, grids=grids, codebook_sizes=codebook_sizes, classes=classes
    )
    return prior


def require_multiple(image_size: int, stride: int) -> None:
    """Refuses a size of images that the model's stride does not divide.

    Raises:
        InputError: naming sizes that it divides.
    """
    if image_size % stride:
        below, above = image_size // stride * stride, (image_size // stride + 1) * stride
        advice = f"Use {below} or {above}." if below else f"Use {above}."
        raise InputError(
            f"data.image_size={image_size} is not a multiple of the model's stride {stride}. "
            f"{advice}"
        )
