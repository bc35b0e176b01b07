"""From a config to modules, optimisers and the step: the one place where it is taken apart."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from avq import parallel
from avq.config import module_fields
from avq.models.discriminator import Discriminator
from avq.models.vqvae import VQVAE
from avq.train.objective import Objective
from avq.train.optim import make_optimizers
from avq.train.state import TrainState, init_state
from avq.train.step import train_step


@dataclass
class System:
    """What a config describes: modules and optimisers.

    Attributes:
        vqvae: the autoencoder.
        discriminator: None where `loss.adversarial_weight` is 0.
        optimizers: by player.
    """

    vqvae: VQVAE
    discriminator: Discriminator | None
    optimizers: dict[str, Any]

    def init(self, seed: int, image_size: int) -> TrainState:
        """The state before the first step."""
        return init_state(
            seed,
            image_size,
            vqvae=self.vqvae,
            discriminator=self.discriminator,
            optimizers=self.optimizers,
        )


def build(config: Any) -> System:
    """Modules and optimisers of a config."""
    adversarial = config.loss.adversarial_weight > 0
    norm_axis = parallel.AXIS if config.model.sync_batch_norm else None
    common = {"dtype": config.model.dtype, "axis_name": norm_axis}
    return System(
        VQVAE(**module_fields(config.model.to_dict()), axis_name=parallel.AXIS),
        Discriminator(**module_fields(config.discriminator.to_dict()), **common)
        if adversarial
        else None,
        make_optimizers(config.optim, config.train.steps),
    )


def make_step(
    system: System, config: Any, pixel_variance: float
) -> Callable[[TrainState, Any], Any]:
    """The training step of a config, before it is mapped over devices and compiled."""
    objective = Objective(
        pixel_variance=pixel_variance,
        adversarial=config.loss.adversarial,
        adversarial_weight=config.loss.adversarial_weight,
        adversarial_start=config.loss.adversarial_start,
        ema_decay=config.optim.ema_decay,
        skip_nonfinite=config.optim.skip_nonfinite > 0,
    )
    return partial(
        train_step,
        vqvae=system.vqvae,
        discriminator=system.discriminator,
        optimizers=system.optimizers,
        objective=objective,
        accumulate=config.optim.accumulate,
        axis_name=parallel.AXIS,
        sync_batch_norm=config.model.sync_batch_norm,
    )
