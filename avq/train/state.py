"""State that training carries from one step to the next."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from avq.train.task import Params, Task, Variables
from avq.typing import Leaf

CODEBOOK = "codebook"  # collection of codebooks that learn by moving averages
AVERAGES = "averages"  # collection of averages that a loss keeps: part of a run, not of a network


@flax.struct.dataclass
class Player:
    """One trained network.

    Attributes:
        params: its parameters.
        model_state: its other variables by collection: 'batch_stats', 'codebook' where one is
            learned by moving averages, 'averages' where a loss keeps some.
        opt_state: state of its optimiser.
    """

    params: Params
    model_state: Any  # a dict; Orbax puts leaves of its own in the place of an empty one
    opt_state: optax.OptState

    def variables(self) -> dict[str, Any]:
        """All variables, as `apply` takes them."""
        return {"params": self.params, **self.model_state}


@flax.struct.dataclass
class TrainState:
    """Complete training state. With the config and the data it determines every later step.

    Attributes:
        step: steps done, a scalar int32.
        players: by name.
        ema: moving average of the parameters and batch statistics of the player that is evaluated.
        rng: key data, uint32; it never changes, step s draws from `fold_in(rng, s)`.
        skipped: how many of the steps done were left out, since they were not finite; int32.
    """

    step: Leaf
    players: dict[str, Player]
    ema: dict[str, Any]
    rng: Leaf
    skipped: Leaf

    def averaged_variables(self, player: str) -> dict[str, Any]:
        """Variables of the averaged player, as `apply` takes them."""
        return {**self.players[player].variables(), **self.ema}


def split_codebook(variables: Variables) -> tuple[dict[str, Any], dict[str, Any]]:
    """All collections but the codebook, and the codebook where there is one."""
    codebook = {name: tree for name, tree in variables.items() if name == CODEBOOK}
    return {name: tree for name, tree in variables.items() if name != CODEBOOK}, codebook


def init_state(task: Task, optimizers: Mapping[str, optax.GradientTransformation]) -> TrainState:
    """The state before the first step; `optimizers` by player."""
    rng, *keys = jax.random.split(jax.random.key(task.seed), 1 + len(task.learning_rates))

    def player(name: str, key: Array) -> Player:
        variables = dict(task.init(name, key))
        params = variables.pop("params")
        return Player(params, variables, optimizers[name].init(params))

    players = {name: player(name, key) for name, key in zip(task.learning_rates, keys, strict=True)}
    # A copy: a buffer that is in the state twice cannot be donated. A codebook that is learned by
    # moving averages is one already.
    ema = jax.tree.map(jnp.copy, split_codebook(players[task.averaged].variables())[0])
    zero = partial(jnp.zeros, (), jnp.int32)  # one buffer each: see above
    return TrainState(zero(), players, ema, jax.random.key_data(rng), zero())
