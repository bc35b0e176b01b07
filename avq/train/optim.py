"""Learning-rate schedules and optimisers from the config."""

from typing import Any

import optax


def schedule(*, learning_rate: float, warmup: int, decay: str, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0 over `warmup` steps, then 'constant', or
    'cosine' down to 0 at `steps`.

    Raises:
        ValueError: for any other `decay`.
    """
    if decay == "constant":
        after = optax.constant_schedule(learning_rate)
    elif decay == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, max(1, steps - warmup))
    else:
        raise ValueError(f"optim.decay {decay!r} is not one of constant, cosine")
    if not warmup:
        return after
    return optax.join_schedules(
        [optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup]
    )


def make_optimizers(optim: Any, steps: int) -> dict[str, optax.GradientTransformation]:
    """Adam for each player, from the config's `optim` and `train.steps`."""
    players = {"vqvae": optim.learning_rate, "discriminator": optim.discriminator_learning_rate}
    return {
        name: optax.adam(
            schedule(learning_rate=rate, warmup=optim.warmup, decay=optim.decay, steps=steps),
            b1=optim.b1,
            b2=optim.b2,
        )
        for name, rate in players.items()
    }
