"""Learning-rate schedules and optimisers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from avq.settings import MAX_INT32, setting
from avq.train.muon import scale_by_muon


@dataclass(frozen=True)
class Optim:
    """Settings of an optimiser."""

    optimizer: Literal["adam", "muon"] = setting(
        "adam",
        "optimiser; muon: orthogonalised updates of kernels, NAdam for all else",
        choices=("adam", "muon"),
    )
    learning_rate: float = setting(1e-4, "learning rate", low=0)
    weight_decay: float = setting(
        0.0, "decay of kernels, times the learning rate (AdamW)", low=0, high=1e6
    )
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


def make_optimizer(optim: Optim, rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam, AdamW where `weight_decay` is above 0, or Muon for kernels and Adam with Nesterov's
    momentum (NAdam) for all other parameters.

    Args:
        optim: settings.
        rate: schedule of the learning rate.
    """
    if optim.optimizer == "muon":
        muon = optax.chain(scale_by_muon(), optax.add_decayed_weights(optim.weight_decay))
        others = optax.scale_by_adam(optim.b1, optim.b2, nesterov=True)
        return optax.chain(
            optax.partition({True: muon, False: others}, _kernels),
            optax.scale_by_learning_rate(rate),
        )
    if optim.weight_decay:
        return optax.adamw(rate, optim.b1, optim.b2, weight_decay=optim.weight_decay, mask=_kernels)
    return optax.adam(rate, optim.b1, optim.b2)


def _kernels(params: Any) -> Any:
    """Whether each parameter is the kernel of a convolution or dense layer."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def learning_rate(schedule: optax.Schedule, opt_state: Any) -> float:
    """Learning rate of the newest update of an optimiser of `make_optimizer`, 0 before its first.

    Args:
        schedule: the optimiser's.
        opt_state: its state.
    """
    updates = int(optax.tree.get(opt_state, "count", filtering=_of_schedule))
    return float(schedule(updates - 1)) if updates else 0.0


def _of_schedule(path: Any, _: Any) -> bool:
    """Whether a count is that of the schedule; Adam has one, too."""
    return bool(path[-1].tuple_name == optax.ScaleByScheduleState.__name__)
