"""A task of two players whose gradients are a line of algebra, so that steps can be computed by
numpy.
"""

from dataclasses import dataclass, replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from avq import parallel
from avq.config import completed
from avq.settings import setting
from avq.train.task import Gradients, Task

BATCH = 8


@dataclass
class Rows:
    batch_size: int = setting(BATCH, "rows a step", low=1)


@flax.struct.dataclass
class Statistics:
    """Sum of the rows of a batch, and a vector that the last micro-batch alone keeps."""

    total: Any
    shared: Any

    def in_turns(self, turn, count):
        return replace(self, shared=jnp.where(turn == count - 1, self.shared, 0.0))


class Toy(Task):
    """Player 'a' minimises mean((x.a)^2) / 2 + a.b, player 'b' mean(x.b) - a.b.

    'a' has a running state, half of the one before and the mean of its rows, and a codebook, which
    the first batch fills with the sum of its rows and every step moves by its statistics.
    """

    averaged = "a"
    best = ("loss", "min")

    def __init__(self, **optim):
        config = completed({"seed": 3, "optim": optim}, self.sections())
        super().__init__(config)
        self.learning_rates = {"a": 1.0, "b": 1.0}

    @classmethod
    def sections(cls):
        return super().sections() | {"data": (Rows,)}

    def init(self, player, key):
        params = {"params": jax.random.normal(key, (3,))}
        if player == "b":
            return params
        return params | {"stats": {"mean": jnp.zeros(3)}, "codebook": {"fill": jnp.zeros(3)}}

    def gradients(self, params, model_state, frozen, batch, key, step):
        x, a, b = batch["x"], params["a"], params["b"]
        by_row = x * (x @ a)[:, None]
        mean = x.mean(0)
        rows = lax.psum(x.sum(0), parallel.AXIS)
        fill = model_state["a"]["codebook"]["fill"]
        fill = jnp.where(jnp.any(fill != 0), fill, rows)
        running = 0.5 * model_state["a"]["stats"]["mean"] + mean
        state = {"stats": {"mean": running}, "codebook": {"fill": fill}}
        return Gradients(
            {"a": by_row.mean(0) + b * frozen.get("scale", 1.0), "b": mean - a},
            {"a": state, "b": {}},
            {"loss": (x @ a).mean(), "draw": jax.random.uniform(key), "step": step * 1.0},
            {"rows": rows},
            (Statistics(rows, jnp.ones(3)),),
        )

    def update_codebooks(self, params, model_state, statistics):
        (statistics,) = statistics
        moved = model_state["a"]["codebook"]["fill"] + statistics.total + 100 * statistics.shared
        return {**model_state, "a": {**model_state["a"], "codebook": {"fill": moved}}}

    open_data: Any = None  # a step needs neither
    evaluator: Any = None


def rows(seed=0):
    """A batch."""
    return np.random.default_rng(seed).normal(size=(BATCH, 3)).astype(np.float32)
