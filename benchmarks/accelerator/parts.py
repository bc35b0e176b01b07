"""Parts of `benchmarks.gpu`: their cases, what these share, and the time that they may take."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jax
from jax.sharding import Mesh

from avq import bench, parallel, tasks
from benchmarks._common import Row, random_training
from benchmarks.accelerator.sizes import PRECISIONS, Sizes

LINE = 200  # characters of an error that a row keeps
Clock = Callable[[], float]


class LeftOut(Exception):
    """A case, or a part, that is not measured; the message says why."""


class Shared:
    """What parts have in common.

    Args:
        sizes: what is measured.
        data: path of images, or 'photographs'.

    Attributes:
        rows: of the parts so far, by name.
        until: time on the clock by which the part under way is to end.
        compile_s: seconds that the last case took that compiled a training step.
    """

    def __init__(self, sizes: Sizes, data: str, clock: Clock = time.monotonic) -> None:
        self.sizes, self.data, self.clock = sizes, data, clock
        self.rows: dict[str, list[Row]] = {}
        self.until = 0.0
        self.compile_s = sizes.compile_s
        self.matmul_flops = cache(self._matmul_flops)

    def config(self, system: str, batch: int, precision: str, *more: str) -> Any:
        """Config of a system on one device, with further arguments."""
        arguments = [
            *self.sizes.systems[system],
            f"--config.data.batch_size={batch}",
            f"--config.model.dtype={PRECISIONS[precision][0]}",
            "--config.parallel.devices=1",
        ]
        return tasks.load([*arguments, *more])

    @property
    def first(self) -> tuple[str, int, str]:
        """The first system, batch and precision."""
        return next(iter(self.sizes.systems)), self.sizes.batches[0], self.sizes.precisions[0]

    @cached_property
    def training(self) -> bench.Training:
        """Training of the first case, on random pixels. Parts share it, since it takes longer to
        compile than to measure; its state is of whatever they did.
        """
        with jax.default_matmul_precision(PRECISIONS[self.first[2]][1]):
            return random_training(self.config(*self.first))

    @property
    def mesh(self) -> Mesh:
        """The one device."""
        return parallel.make_mesh(1)

    def _matmul_flops(self, precision: str) -> float:
        """FLOP/s of a large matrix product: the practical peak."""
        dtype, of_float32 = PRECISIONS[precision]
        with jax.default_matmul_precision(of_float32):
            return bench.matmul_flops(self.mesh, dtype, self.sizes.runs)


@dataclass(frozen=True)
class Case:
    """A row of a part.

    Attributes:
        about: what the row is of.
        measure: returns the rest of it.
        compiles: whether a training step is compiled for it, which takes longer than all else.
    """

    about: Row
    measure: Callable[[], Row]
    compiles: bool = False


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        name: in the results.
        share: of the minutes, relative to those of the parts that come after it.
        cases: most worth knowing first. Raises `LeftOut` where there is nothing to measure.
    """

    name: str
    share: float
    cases: Callable[[Shared], Sequence[Case]]


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def run_part(
    part: Part,
    shared: Shared,
    seconds: float,
    on_row: Callable[[Row], object] = lambda result: None,
) -> Row:
    """Measures the cases of a part, until the next would not fit by what the last one took. Those
    that compile a training step are compared with the last such one, of any part. A first row that
    compiles none is always measured: it takes seconds.

    Args:
        part: to run.
        shared: of all parts; gains the rows.
        seconds: that it may take.
        on_row: called with the result so far after every row.

    Returns:
        `name`, `seconds`, `rows`, and in words `skipped`, where there are none, or `left_out`,
        where there could have been more.
    """
    began, took = shared.clock(), 0.0
    shared.until = began + seconds
    result: Row = {"name": part.name, "seconds": 0.0, "rows": []}
    shared.rows[part.name] = result["rows"]
    try:
        cases = part.cases(shared)
    except LeftOut as why:
        return result | {"skipped": str(why)}
    for number, case in enumerate(cases):
        started = shared.clock()
        needed = shared.compile_s if case.compiles else took
        measured = any("left_out" not in row for row in result["rows"])
        if (left := shared.until - started) <= needed and (measured or case.compiles):
            count = f"{len(cases) - number} of {len(cases)} rows"
            times = f"{max(0, left):.0f} s were left, and the next takes about {needed:.0f} s"
            result["left_out" if number else "skipped"] = f"{count}: {times}"
            break
        figures = _figures(case)
        spent = shared.clock() - started
        if case.compiles:
            shared.compile_s = spent
        else:
            took = spent
        result["rows"].append({**case.about, **figures, "seconds": round(spent, 1)})
        result["seconds"] = round(shared.clock() - began, 1)
        on_row(result)
    return result


def _figures(case: Case) -> Row:
    """What a case measures, or in words why it does not."""
    try:
        return case.measure()
    except LeftOut as why:
        return {"left_out": str(why)}
    except Exception as error:  # such as too little memory; other cases may still be measured
        lines = str(error).splitlines() or [""]
        return {"failed": f"{type(error).__name__}: {lines[0]}"[:LINE]}
