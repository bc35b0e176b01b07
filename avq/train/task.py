"""The protocol between the trainer and what it trains.

A task is a model, its losses, its data and its evaluation. Everything else about a run (step, loop,
optimisers, checkpoints, processes) is the same for all tasks. `avq.tasks.TASKS` lists them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import flax.struct
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, UInt8

from avq.checkpoint import Best, Checkpointing
from avq.parallel import Parallel
from avq.settings import MAX_INT32, MAX_UINT32, construct, setting
from avq.train.optim import Optim
from avq.typing import Leaf

Batch = Mapping[str, Any]  # arrays with the batch as first axis
Params = Any  # nested dicts of arrays
Variables = Mapping[str, Any]  # a player's collections, by name


@dataclass(frozen=True)
class Run:
    """Settings at the top of a config."""

    task: str = setting("autoencoder", "what is trained, a name in avq.tasks.TASKS")
    seed: int = setting(
        0, "seed of parameters, views and order of the data", low=0, high=MAX_UINT32
    )


@dataclass(frozen=True)
class Train:
    """Settings of the loop."""

    steps: int = setting(960_000, "training steps", low=0, high=MAX_INT32, free=True)
    log_every: int = setting(
        100, "steps between lines in metrics.jsonl", low=1, high=MAX_INT32, free=True
    )
    eval_every: int = setting(10_000, "steps between evaluations", low=1, high=MAX_INT32, free=True)


@flax.struct.dataclass
class Gradients:
    """Gradients, model state and metrics of one (micro-)batch.

    Attributes:
        gradients: by player; of this device's part of the batch.
        model_state: by player, all collections but 'params', after the batch.
        metrics: scalars, whose means over micro-batches and steps are logged.
        counts: arrays, whose sums over micro-batches and steps go to `Task.interval`; of the global
            batch.
        statistics: `CodebookStatistics` of the global batch by level, for `Task.update_codebooks`.
    """

    gradients: dict[str, Any]
    model_state: dict[str, Any]
    metrics: dict[str, Leaf]
    counts: dict[str, Any] = field(default_factory=dict)
    statistics: tuple[Any, ...] = ()


@runtime_checkable
class Batches(Protocol):
    """Iterator over batches. Holds threads or processes until it is closed."""

    def __next__(self) -> Batch: ...

    def close(self) -> None:
        """Ends its threads and processes."""
        ...


@runtime_checkable
class TaskData(Protocol):
    """Data of a run."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """Content of the run's `dataset.json`."""
        ...

    def batches(self, start: int) -> Batches:
        """This process's part of every batch from step `start` on; the same batch for the same
        step, whatever was read before.
        """
        ...


@dataclass(frozen=True)
class Evaluation:
    """Result of evaluating the averaged model.

    Attributes:
        measures: numbers, or lists of them, by name.
        pictures: by name, for `samples/` and TensorBoard.
    """

    measures: dict[str, Any]
    pictures: dict[str, UInt8[np.ndarray, "h w 3"]] = field(default_factory=dict)


# From the last step of a log interval and its values to warnings by name, one for each condition
# that holds; may add `guard/NAME` to the values. Called for every interval, in order.
Alarm = Callable[[int, dict[str, Any]], Mapping[str, str]]


class Task(ABC):
    """Model, losses, data and evaluation of a run.

    Attributes:
        config: plain dicts, checked against the sections.
        learning_rates: by player, one for each trained network. Keys of initialisation are drawn in
            this order.
        starts: step from which a player plays, 0 for those that are not in it. Before it, its
            parameters and its optimiser stay as they are; `model_state` does not.
        optims: settings of the optimisers of players that do not take them from `optim`.
        averaged: the player whose moving average is evaluated.
        dtype: compute type of the step, which chooses options of the compiler.
        best: the measure that ranks checkpoints, and 'max' or 'min'.
        folder: of the run, set before the data is opened, which may keep files there.
    """

    learning_rates: Mapping[str, float]
    starts: Mapping[str, int] = MappingProxyType({})
    optims: Mapping[str, Optim] = MappingProxyType({})
    averaged: str
    dtype: str = "float32"
    best: Best
    folder = Path()

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.seed: int = config["seed"]
        self.batch_size: int = config["data"]["batch_size"]
        self.optim = construct(Optim, config["optim"])
        self.train = construct(Train, config["train"])
        self.checkpoint = construct(Checkpointing, config["checkpoint"])
        self.parallel = construct(Parallel, config["parallel"])

    @classmethod
    def sections(cls) -> dict[str, tuple[type, ...]]:
        """Dataclasses whose settings are the keys of each section of the config; '' is its top
        level. A task adds its own.
        """
        return {
            "": (Run,),
            "optim": (Optim,),
            "train": (Train,),
            "checkpoint": (Checkpointing,),
            "parallel": (Parallel,),
        }

    @abstractmethod
    def init(self, player: str, key: Array) -> Variables:
        """Initial variables of a player: 'params' and any other collections."""

    @abstractmethod
    def gradients(
        self,
        params: Mapping[str, Params],
        model_state: Mapping[str, Variables],
        frozen: Mapping[str, Any],
        batch: Batch,
        key: Array,
        step: Array,
    ) -> Gradients:
        """Gradients of every player's loss on this device's part of a (micro-)batch. Traced; runs
        under `jax.shard_map` over the axis `avq.parallel.AXIS` when several devices share a batch.

        Args:
            params: by player.
            model_state: by player, all other collections.
            frozen: see `frozen`.
            batch: of `TaskData.batches`.
            key: PRNG key of this step (and micro-batch).
            step: number of steps done.
        """

    def update_codebooks(
        self,
        params: Mapping[str, Params],
        model_state: Mapping[str, Variables],
        statistics: Sequence[Any],
    ) -> Mapping[str, Variables]:
        """Model state with the codebooks moved by the statistics of a step; traced."""
        return model_state

    def frozen(self) -> Mapping[str, Any]:
        """Arrays that the step reads and training does not change: replicated, never saved."""
        return {}

    @abstractmethod
    def open_data(self, known: Mapping[str, Any] | None) -> TaskData:
        """Opens the data; called once, before anything is traced.

        Args:
            known: `summary` of a run that is resumed.

        Raises:
            InputError: for data that cannot be used, or that changed since `known`.
        """

    @abstractmethod
    def evaluator(self, data: Any, mesh: Mesh) -> Callable[[Variables], Evaluation]:
        """A function that evaluates variables of the averaged player; every process calls it."""

    def interval(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """Values to log from the summed `Gradients.counts` of an interval."""
        return {}

    def alarms(self) -> Sequence[Alarm]:
        """New alarms for the values of log intervals."""
        return ()

    def data_headline(self, data: Any) -> str:
        """The data in a few words, for the first line on the terminal."""
        return ""

    def conclusion(self, run: str) -> str:
        """What to do with the finished run at a path or URL, for the last line on the terminal."""
        return ""

    def headline(self, values: Mapping[str, Any]) -> str:
        """Values of a log interval (`train/...`) for the progress line."""
        return f"loss {values['train/loss']:.4f}"

    def evaluation_headline(self, measures: Mapping[str, Any]) -> str:
        """Measures of an evaluation for one line on the terminal."""
        name = self.best[0]
        return f"{name} {measures[name]:.4f}"
