"""Whether steps from the same state end in the same bits, with and without
`parallel.deterministic`, and what that costs.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from avq import cpu, parallel
from avq.bench import Training, time_calls, trace_step
from benchmarks._common import Row, random_batch, random_training
from benchmarks.accelerator.parts import Case, LeftOut, Shared, rounded
from benchmarks.accelerator.sizes import PRECISIONS


class Repeats:
    """Runs of a few steps, repeated from the same state.

    Args:
        shared: with the first case's training, which is the one without the setting.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.step_ms = 0.0
        self.deterministic: Training | None = None

    def default(self) -> Row:
        """Leaves that differ, and time of a step."""
        row = self._row(self.shared.training)
        self.step_ms = row["step_ms"]
        return row

    def setting(self) -> Row:
        """The same with the setting, and the price: additional time, relative to that without."""
        config = self.shared.config(*self.shared.first, "--config.parallel.deterministic=True")
        with self._precision():
            self.deterministic = random_training(config)
        row = self._row(self.deterministic)
        return row | ({"price": rounded(row["step_ms"] / self.step_ms - 1)} if self.step_ms else {})

    def recompiled(self) -> Row:
        """Leaves that differ between the program with the setting and the same compiled again,
        where autotuning may choose otherwise.

        Raises:
            LeftOut: when `setting` failed.
        """
        training = self.deterministic
        if training is None:
            raise LeftOut("it was not compiled once")
        start = jax.device_get(training.state)
        before = self._after_steps(training, training.compiled, start)
        batch = random_batch(self.shared.config(*self.shared.first))
        with self._precision(), cpu.without_compilation_cache():
            again = cpu.compiled(trace_step(training.task, training.mesh, batch))
        return differing(before, self._after_steps(training, again, start))

    def _precision(self) -> Any:
        return jax.default_matmul_precision(PRECISIONS[self.shared.first[2]][1])

    def _row(self, training: Training) -> Row:
        start = jax.device_get(training.state)
        first, second = (self._after_steps(training, training.compiled, start) for _ in range(2))
        times = time_calls(training.step, runs=self.shared.sizes.runs)
        return differing(first, second) | {"step_ms": rounded(times.median)}

    def _after_steps(self, training: Training, compiled: Any, start: Any) -> list[np.ndarray]:
        """All leaves of the state after some steps from a state on the host."""
        state = jax.device_put(start, parallel.replicated(training.mesh))
        for _ in range(self.shared.sizes.steps):
            state, _ = compiled(state, training.frozen, training.batch)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state))]


def differing(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Row:
    """How many leaves there are, and in how many of them any bit differs."""
    differ = sum(a.tobytes() != b.tobytes() for a, b in zip(first, second, strict=True))
    return {"leaves": len(first), "leaves_that_differ": differ}


def cases(shared: Shared) -> Sequence[Case]:
    """Without the setting, with it, and with it compiled again."""
    repeats, steps = Repeats(shared), {"steps": shared.sizes.steps}
    return [
        Case(steps | {"program": "default"}, repeats.default),
        Case(steps | {"program": "deterministic"}, repeats.setting, compiles=True),
        Case(steps | {"program": "compiled again"}, repeats.recompiled, compiles=True),
    ]
