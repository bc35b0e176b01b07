"""Calls that `benchmarks.peers` times: training, encoding and decoding, ours and the twin's."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import torch

from avq import cpu
from avq.bench import Training
from avq.models.vqvae import VQVAE
from avq.tasks.autoencoder import Autoencoder
from benchmarks._common import Call, random_batch
from benchmarks.speed import torch_model
from benchmarks.speed.torch_training import Trainer, copy_variables

# By dtype: share of codes, and distance of pixels in [-1, 1], by which rounding may change outputs.
TOLERANCES = {"float32": (0.01, 1e-3), "bfloat16": (0.03, 0.1)}


class Inference(Protocol):
    """Encoding and decoding of a batch by a peer."""

    def encode(self) -> list[np.ndarray]:
        """Codes by level, finest first, or those of the finest level alone."""
        ...

    def decode(self) -> np.ndarray:
        """Images from the codes of the finest level."""
        ...


class AvqCalls:
    """Calls of a system to time, on the batch of a training, which goes on."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.train: Call = self.training.step
        self.train(), self.train()  # fills the codebook, as in a run that is under way
        players = self.training.state.players
        self.variables = {
            name: jax.tree.map(jnp.copy, player.variables()) for name, player in players.items()
        }
        task: Any = self.training.task
        compiled = partial(jax.jit, compiler_options=cpu.compiler_options("inference"))
        encode = compiled(partial(task.model.apply, method=VQVAE.encode))
        decode = compiled(partial(task.model.apply, method=VQVAE.decode))
        variables = self.variables["vqvae"]
        pixels = self.training.batch["image"].astype(jnp.float32) / 127.5 - 1
        self.codes = encode(variables, pixels)
        self.encode: Call = lambda: encode(variables, pixels)
        self.decode: Call = lambda: decode(variables, self.codes)
        self.decode()  # traced here, inside `reference_ops` where the caller asks for it


def autocast(config: Any, device: str) -> Callable[[], torch.autocast]:
    """Makes the context in which a peer computes with `model.dtype`."""
    half = config.model.dtype == "bfloat16"
    return partial(torch.autocast, device, torch.bfloat16, enabled=half)


def torch_pixels(batch: dict[str, np.ndarray], device: str) -> torch.Tensor:
    """Images of a batch as floats in [-1, 1], channels first."""
    pixels = torch.tensor(batch["image"]).permute(0, 3, 1, 2).to(device)
    return pixels.float() / 127.5 - 1


class TorchTraining:
    """Training of the PyTorch twin on a batch of random pixels.

    Args:
        config: of the system.
        device: where it runs.
        variables: ours by player, for the twin to begin with; None leaves its own.
    """

    pixel_variance = Autoencoder.pixel_variance  # that of ours without images

    def __init__(
        self, config: Any, device: str, variables: Mapping[str, Any] | None = None
    ) -> None:
        place = {"device": device, "memory_format": torch.channels_last}
        self.vqvae = torch_model.VQVAE(config.model).to(**place)
        self.discriminator = torch_model.Discriminator(config.discriminator).to(**place)
        if variables is not None:
            copy_variables(self.vqvae, variables["vqvae"])
            copy_variables(self.discriminator, variables["discriminator"])
        self.pixels = torch_pixels(random_batch(config), device)
        self.autocast = autocast(config, device)
        self.trainer = Trainer(config, self.vqvae, self.discriminator, self.autocast)

    def train(self) -> float:
        """Trains one step; returns its loss."""
        self.vqvae.train(), self.discriminator.train()
        return float(self.trainer.step(self.pixels, self.pixel_variance))


class TorchCalls(TorchTraining):
    """The calls of `AvqCalls` by the PyTorch twin, with our variables."""

    def __init__(self, config: Any, ours: AvqCalls, device: str) -> None:
        super().__init__(config, device, ours.variables)
        self.codes = torch.tensor(np.asarray(ours.codes[0])).long().to(device)

    def compiled(self) -> "TorchCalls":
        """Compiles all calls by `torch.compile`."""
        self.vqvae.forward = torch.compile(self.vqvae.forward)
        self.vqvae.encode = torch.compile(self.vqvae.encode)
        self.vqvae.decode = torch.compile(self.vqvae.decode)
        self.discriminator.forward = torch.compile(self.discriminator.forward)
        return self

    def encode(self) -> list[np.ndarray]:
        """Codes by level, finest first."""
        self.vqvae.eval()
        with torch.inference_mode(), self.autocast():
            return [np.asarray(codes.cpu()) for codes in self.vqvae.encode(self.pixels)]

    def decode(self) -> np.ndarray:
        """Images from the codes of the finest level."""
        self.vqvae.eval()
        with torch.inference_mode(), self.autocast():
            return np.asarray(self.vqvae.decode(self.codes).permute(0, 2, 3, 1).cpu())


def require_equal(ours: AvqCalls, peer: Inference, dtype: str) -> None:
    """Compares codes and images of the twin with ours.

    Args:
        ours, peer: with the same parameters.
        dtype: of both.

    Raises:
        ValueError: when they differ by more than rounding explains.
    """
    most, furthest = TOLERANCES[dtype]
    for mine, theirs in zip(ours.encode(), peer.encode(), strict=False):  # the finest level's
        if (differing := np.mean(np.asarray(mine) != theirs)) > most:
            raise ValueError(f"{differing:.1%} of the twin's codes differ")
    distance = np.abs(np.asarray(ours.decode()) - peer.decode()).max()
    if distance > furthest:
        raise ValueError(f"the twin's images differ by up to {distance}")
