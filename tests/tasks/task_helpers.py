"""Small autoencoder tasks, and their training steps with the optimisers of a test."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avq import parallel, tasks
from avq.train.loop import compile_step
from avq.train.state import init_state

SIZE, BATCH = 16, 8
SMALL = {
    "data.image_size": SIZE,
    "data.batch_size": BATCH,
    "model.codebook_size": 8,
    "model.code_dim": 4,
    "model.base_filters": (4, 4),
    "model.aren_filters": 4,
    "model.decoder_filters": (4, 4, 4),
    "model.encoder_blocks": 0,
    "model.decoder_blocks": 0,
    "model.attention_dim": 4,
    # Far below any real use: in so small a batch revival would rest on rounding.
    "model.revive_below": 1e-6,
    "discriminator.filters": (4, 4, 1),
    "discriminator.strides": (2, 2, 1),
    "loss.adversarial_weight": 0.1,
    "optim.ema_decay": 0.9,
}
PLAIN = {
    "model.levels": 1,
    "model.base_filters": (4,),
    "model.decoder_filters": (4, 4),
    "model.attention_norm": "off",
}
PIXEL_VARIANCE = 0.3
SGD = optax.sgd(1.0)
# With a learning rate that is a part of the state, one compiled step serves several tests.
ADAM = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)


def make_task(*settings: dict[str, Any]) -> Any:
    """An autoencoder task; later settings win."""
    config = tasks.defaults("autoencoder")
    for key, value in {k: v for part in (SMALL, *settings) for k, v in part.items()}.items():
        section, name = key.split(".", 1)
        config[section][name] = value
    task: Any = tasks.make_task(config)
    task.pixel_variance = PIXEL_VARIANCE  # as if its data were open
    return task


class Stepper:
    """A task's step on so many devices, with one optimiser for all players.

    Attributes:
        state: the initial one, on the host.

    Args:
        state: the initial one, of a task with the same modules, which is not drawn again.
    """

    def __init__(
        self, task: Any, optimizer: Any = SGD, devices: int = 1, state: Any = None
    ) -> None:
        self.task, self.mesh = task, parallel.make_mesh(devices)
        self.optimizers = dict.fromkeys(task.learning_rates, optimizer)
        self.step = compile_step(task, self.optimizers, self.mesh)
        init = jax.jit(lambda: init_state(task, self.optimizers))
        self.state = jax.device_get(init()) if state is None else state

    def __call__(self, state: Any, images: Any) -> Any:
        """State and metrics after a step, on the host; the state given stays usable."""
        batch = parallel.shard_batch({"image": images}, self.mesh)
        return jax.device_get(self.step(self.placed(state), {}, batch))

    def placed(self, state: Any) -> Any:
        """A copy of a state on the devices."""
        return jax.device_put(jax.tree.map(np.array, state), parallel.replicated(self.mesh))


def at_rates(state: Any, **rates: float) -> Any:
    """The state with other learning rates, by player."""
    players = dict(state.players)
    for name, rate in rates.items():
        opt_state = players[name].opt_state
        hyperparams = {**opt_state.hyperparams, "learning_rate": jnp.float32(rate)}
        opt_state = opt_state._replace(hyperparams=hyperparams)  # all, or it is compiled again
        players[name] = players[name].replace(opt_state=opt_state)
    return state.replace(players=players)


def change(player: str, before: Any, after: Any) -> Any:
    """Change of a player's parameters; for SGD at rate 1 the gradient with its sign turned."""
    return jax.tree.map(np.subtract, after.players[player].params, before.players[player].params)
