"""Training of the PyTorch twin: losses, optimisers, and the copy of our variables into it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avq.config import flatten
from benchmarks.speed.torch_model import VQVAE, Discriminator


class Trainer:
    """Trains both players with fused Adam.

    Args:
        config: of the system.
        vqvae, discriminator: the players.
        autocast: makes the context in which forward passes run.
    """

    def __init__(
        self, config: Any, vqvae: VQVAE, discriminator: Discriminator, autocast: Any
    ) -> None:
        self.vqvae, self.discriminator, self.autocast = vqvae, discriminator, autocast
        self.weight, self.decay = config.loss.adversarial_weight, config.optim.ema_decay
        betas = (config.optim.b1, config.optim.b2)
        rates = config.optim.learning_rate, config.optim.discriminator_learning_rate
        players: tuple[nn.Module, ...] = (vqvae, discriminator)
        self.optimizers = [
            torch.optim.Adam(player.parameters(), lr=rate, betas=betas, fused=True)
            for player, rate in zip(players, rates, strict=True)
        ]
        self.averaged = [p.detach().clone() for p in self._averaged_tensors()]

    def _averaged_tensors(self) -> list[Tensor]:
        floats = [b for n, b in self.vqvae.named_buffers() if "running" in n]
        return [*self.vqvae.parameters(), *floats]

    def generator_loss(self, images: Tensor, pixel_variance: float) -> tuple[Tensor, Tensor]:
        """Loss of the generator, and its images."""
        outputs, quantization = self.vqvae(images)
        mae = (outputs - images).abs().mean()
        self.discriminator.requires_grad_(False)
        adversarial = functional.softplus(-self.discriminator(outputs)).mean()
        self.discriminator.requires_grad_(True)
        return mae / pixel_variance + quantization + self.weight * adversarial, outputs

    def discriminator_loss(self, images: Tensor, outputs: Tensor) -> Tensor:
        """Loss of the discriminator."""
        real = self.discriminator(images)
        fake = self.discriminator(outputs.detach())
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def step(self, images: Tensor, pixel_variance: float) -> Tensor:
        """Updates both players and the moving average; returns the generator's loss."""
        with self.autocast():
            loss, outputs = self.generator_loss(images, pixel_variance)
            discriminator_loss = self.discriminator_loss(images, outputs)
        for optimizer, value in zip(self.optimizers, (loss, discriminator_loss), strict=True):
            optimizer.zero_grad(set_to_none=True)
            value.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        torch._foreach_lerp_(
            self.averaged, [p.detach() for p in self._averaged_tensors()], 1 - self.decay
        )
        return loss.detach()


def copy_variables(module: nn.Module, variables: dict[str, Any]) -> None:
    """Copies our variables, by collection, into a module of the twin.

    Raises:
        KeyError: when one has a variable that the other lacks.
    """
    ours = {name: a for tree in variables.values() for name, a in flatten(tree).items()}
    theirs = {n: t for n, t in module.state_dict().items() if "num_batches" not in n}
    names = {_name(path, theirs): path for path in ours}
    if names.keys() != theirs.keys():
        raise KeyError(f"without a twin: {sorted(names.keys() ^ theirs.keys())}")
    with torch.no_grad():
        for name, tensor in theirs.items():
            value = np.asarray(ours[names[name]])
            if value.ndim == 4 and "UpConv" in type(_owner(module, name)).__name__:
                value = value[::-1, ::-1].transpose(2, 3, 0, 1)
            elif value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            elif names[name].endswith("kernel"):
                value = value.T
            tensor.copy_(torch.tensor(np.ascontiguousarray(value)))


def _name(path: str, theirs: dict[str, Tensor]) -> str:
    stem, last = path.rsplit(".", 1)
    renamed = {"mean": "running_mean", "var": "running_var"}
    renamed |= dict.fromkeys(("kernel", "scale", "embedding"), "weight")
    return path if path in theirs else f"{stem}.{renamed.get(last, last)}"


def _owner(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name.rsplit(".", 1)[0])
