"""What training carries from one step to the next."""

from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

Tree = Any


@flax.struct.dataclass
class Player:
    """One trained network.

    Attributes:
        params: its parameters.
        model_state: its other variables by collection: 'batch_stats', and 'codebook' where one is
            learned by moving averages.
        opt_state: of its optimiser.
    """

    params: Tree
    model_state: dict[str, Tree]
    opt_state: optax.OptState

    def variables(self) -> dict[str, Tree]:
        """All variables, as `apply` takes them."""
        return {"params": self.params, **self.model_state}


@flax.struct.dataclass
class TrainState:
    """Everything a run is at a step; together with the config and the data it says all that comes
    after.

    Attributes:
        step: steps done, a scalar int32.
        vqvae: the generator.
        discriminator: a `Player`, or None where the config trains without one.
        ema: moving average of the generator's parameters and batch statistics, which evaluation
            uses.
        rng: key data, uint32; it never changes, step s draws from `fold_in(rng, s)`.
        skipped: how many of the steps done were left out, since they were not finite; int32.
    """

    step: Any
    vqvae: Player
    discriminator: Any  # Orbax puts its own marks in the place of None
    ema: dict[str, Tree]
    rng: Any
    skipped: Any

    def ema_variables(self) -> dict[str, Tree]:
        """Variables of the averaged generator, as `apply` takes them."""
        return {**self.vqvae.variables(), **self.ema}


def split_codebook(variables: dict[str, Tree]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """All collections but 'codebook', and that one, where there is one."""
    codebook = {name: tree for name, tree in variables.items() if name == "codebook"}
    return {name: tree for name, tree in variables.items() if name not in codebook}, codebook


def init_state(
    seed: int,
    image_size: int,
    *,
    vqvae: nn.Module,
    discriminator: nn.Module | None,
    optimizers: dict[str, optax.GradientTransformation],
) -> TrainState:
    """The state before the first step; `optimizers` by player: 'vqvae' and 'discriminator'."""
    rng, vqvae_key, discriminator_key = jax.random.split(jax.random.key(seed), 3)
    image = jnp.zeros((1, image_size, image_size, 3))

    def player(module: nn.Module, key: Array, optimizer: optax.GradientTransformation) -> Player:
        variables = dict(module.init(key, image, train=False))
        params = variables.pop("params")
        return Player(params, variables, optimizer.init(params))

    generator = player(vqvae, vqvae_key, optimizers["vqvae"])
    opponent = None
    if discriminator is not None:
        opponent = player(discriminator, discriminator_key, optimizers["discriminator"])
    # A copy: a buffer that stands in the state twice cannot be donated. A codebook that is learned
    # by moving averages is one already.
    ema = jax.tree.map(jnp.copy, split_codebook(generator.variables())[0])
    zero = partial(jnp.zeros, (), jnp.int32)  # one buffer each: see above
    return TrainState(zero(), generator, opponent, ema, jax.random.key_data(rng), zero())
