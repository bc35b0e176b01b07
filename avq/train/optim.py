"""Learning-rate schedules and optimisers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optax

from avq.settings import MAX_INT32, setting


@dataclass(frozen=True)
class Optim:
    """Settings of the optimisers. Some tasks have a learning rate and a b1 for each player."""

    learning_rate: float = setting(1e-4, "Adam's learning rate", low=0)
    b1: float = setting(0.5, "Adam's decay of the mean gradient", low=0, high=0.999999)
    b2: float = setting(0.999, "Adam's decay of the mean squared gradient", low=0, high=0.999999)
    warmup: int = setting(0, "steps of linear warm-up", low=0, high=MAX_INT32)
    decay: str = setting(
        "constant", "learning rate after the warm-up", choices=("constant", "cosine")
    )
    ema_decay: float = setting(0.999, "decay of the averaged parameters", low=0, high=1)
    accumulate: int = setting(1, "micro-batches that a batch is gone through in", low=1, high=2**20)
    skip_nonfinite: int = setting(
        0,
        "steps that may be left out for not being finite",
        low=0,
        high=MAX_INT32,
        free=True,
    )


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


def make_schedules(
    optim: Optim, learning_rates: Mapping[str, float], starts: Mapping[str, int], steps: int
) -> dict[str, optax.Schedule]:
    """Schedule of each player's learning rate, by the number of its updates.

    Args:
        optim: settings.
        learning_rates: by player.
        starts: step from which a player is updated, 0 for those that are not in it.
        steps: of the run, at which a cosine schedule reaches 0.
    """
    return {
        name: schedule(
            learning_rate=rate,
            warmup=optim.warmup,
            decay=optim.decay,
            steps=steps - starts.get(name, 0),
        )
        for name, rate in learning_rates.items()
    }


def make_optimizers(
    optim: Optim, schedules: Mapping[str, optax.Schedule], b1: Mapping[str, float]
) -> dict[str, optax.GradientTransformation]:
    """Adam for each player.

    Args:
        optim: settings.
        schedules: of the learning rate, by player.
        b1: of the players whose b1 is not that of `optim`.
    """
    return {
        name: optax.adam(rate, b1=b1.get(name, optim.b1), b2=optim.b2)
        for name, rate in schedules.items()
    }


def learning_rate(schedule: optax.Schedule, opt_state: Any) -> float:
    """Learning rate of the newest update of an optimiser of `make_optimizers`, 0 before its first.

    Args:
        schedule: the optimiser's.
        opt_state: its state.
    """
    updates = int(optax.tree.get(opt_state, "count", filtering=_of_schedule))
    return float(schedule(updates - 1)) if updates else 0.0


def _of_schedule(path: Any, _: Any) -> bool:
    """Whether a count is that of the schedule; Adam has one, too."""
    return bool(path[-1].tuple_name == optax.ScaleByScheduleState.__name__)
