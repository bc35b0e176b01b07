"""A task that avq does not know trains, evaluates, saves, is killed and resumes."""

import os
from dataclasses import dataclass
from typing import Any

import chex
import jax
import numpy as np

from avq import tasks
from avq.checkpoint import Checkpoints
from avq.settings import setting
from avq.train import loop, task

SLOPE = np.array([1.0, -2.0, 0.5], np.float32)


@dataclass
class Points:
    batch_size: int = setting(8, "points a step", low=1)


class Regression(task.Task):
    learning_rates, averaged, best = {"line": 0.5}, "line", ("error", "min")
    sections = classmethod(lambda cls: task.Task.sections() | {"data": (Points,)})
    open_data: Any = lambda self, known: self
    summary = property(lambda self: {"points": "endless"})

    def init(self, player, key):
        return {"params": jax.random.normal(key, (3,))}

    def gradients(self, params, model_state, frozen, batch, key, step):
        squares = jax.value_and_grad(lambda line: ((batch["x"] @ line - batch["y"]) ** 2).mean())
        loss, gradients = squares(params["line"])
        return task.Gradients({"line": gradients}, {"line": {}}, {"loss": loss})

    def batches(self, start):
        for step in range(start, 60):
            os.kill(os.getpid(), 9 if os.getenv("KILL_AT") == str(step) else 0)  # 0 does nothing
            x = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
            yield {"x": x, "y": x @ SLOPE}

    def evaluator(self, data, mesh):
        return lambda v: task.Evaluation({"error": np.abs(v["params"] - SLOPE).max().item()})


def run(folder):
    tasks.TASKS["regression"] = Regression
    config = tasks.defaults("regression")
    config.update({"train": {"steps": 60, "eval_every": 20}, "checkpoint": {"every": 7}})
    return loop.train(tasks.make_task(config), folder)


def test_it_ends_at_the_same_bits_killed_or_not(tmp_path, exit_code_of):
    assert exit_code_of(run, tmp_path / "a") == 0
    assert [exit_code_of(run, tmp_path / "b", KILL_AT=step) for step in ("40", "60")] == [-9, 0]
    ends = [Checkpoints(tmp_path / name, read_only=True).restore_arrays() for name in "ab"]
    chex.assert_trees_all_equal(*ends)
    assert np.abs(ends[0][1]["ema"]["params"] - SLOPE).max() < 0.1
