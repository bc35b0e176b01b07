"""Arguments, inputs, timing in turns, peak memory, and one process for each case."""

import argparse
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from avq import json_files
from avq.bench import Training, runnable_task, time_calls

Row = dict[str, Any]
Call = Callable[[], Any]
STEPS = 3  # of `training_memory`


def make_parser(
    description: str | None, *, runs: int | None = None, studies: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Parser of the flags that benchmarks share.

    Args:
        description: the module's docstring, printed by `--help`.
        runs: default of `--runs`; None where nothing is repeated.
        studies: names for `--study`, which by default runs all of them.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    if runs is not None:
        help_text = f"timed calls of each kind and round (default: {runs})"
        parser.add_argument("--runs", type=_runs, default=runs, metavar="N", help=help_text)
    if studies:
        parser.add_argument("--study", nargs="+", choices=studies, default=list(studies))
    return parser


def _runs(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:  # one call has no quartiles
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 on")
    return int(text)


def parse_with_config(
    parser: argparse.ArgumentParser, default: str = "configs/ah_vqvae.py:tiny"
) -> tuple[argparse.Namespace, list[str]]:
    """Parses the command line; the second value is what `avq.tasks.load` takes.

    Args:
        parser: gains the flag `--config`; `--config.KEY=VALUE` overrides a value.
        default: config where the command names none.
    """
    parser.add_argument("--config", default=default, help=f"default: {default}")
    arguments, overrides = parser.parse_known_args()
    return arguments, [f"--config={arguments.config}", *overrides]


def write_json(file: Path | None, result: Row) -> None:
    """Replaces a file by results and the version of JAX in one step; nothing without a file."""
    if file is not None:
        json_files.write_json(file, {"jax": jax.__version__, **result})


def random_batch(config: Any) -> dict[str, np.ndarray]:
    """A batch of random pixels, as large as the config's."""
    size, batch = config.data.image_size, config.data.batch_size
    shape = (batch, size, size, 3)
    return {"image": np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)}


def random_training(config: Any) -> Training:
    """Training of a config on a batch of random pixels."""
    return Training(*runnable_task(config), random_batch(config))


def medians_in_turns(calls: Mapping[str, Call], rounds: int, runs: int) -> dict[str, float]:
    """Median milliseconds of each call.

    A machine whose speed drifts does so for all calls, since they take turns: `runs` timed calls
    and one to warm up, for each of them, in each round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(time_calls(call, runs=runs, warm_up=1).median)
    return {name: float(np.median(values)) for name, values in times.items()}


def peak_growth(call: Call) -> int:
    """Bytes by which a call's peak exceeds what was in use just before it.

    Counts the accelerator's memory where there is one, otherwise the process's resident memory
    (Linux). Compile before, but do not call: XLA keeps on the CPU what a first call allocated, and
    a second one would seem to need nothing.
    """
    if jax.default_backend() != "cpu":
        stats: Any = jax.devices()[0].memory_stats
        before = int(stats()["bytes_in_use"])
        jax.block_until_ready(call())
        return int(stats()["peak_bytes_in_use"]) - before
    ctypes.CDLL(None).malloc_trim(0)  # memory freed by compilation returns to the system
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident size
    resident = process_memory("VmRSS")
    jax.block_until_ready(call())
    return max(0, process_memory("VmHWM") - resident)


def training_memory(make_step: Callable[[], Call]) -> int:
    """Bytes that building a model and training it for STEPS steps need at their peak, see
    `peak_growth`; compilation is part of them.

    Args:
        make_step: builds the model; returns its training step.
    """

    def train() -> None:
        step = make_step()
        for _ in range(STEPS):
            jax.block_until_ready(step())

    return peak_growth(train)


def process_memory(field: str) -> int:
    """Bytes of a field of this process's status, such as VmRSS, what is resident, or VmHWM, its
    peak (Linux).
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def run_cases(
    description: str | None, cases: list[Row], measure: Callable[..., Row], *, study: str, runs: int
) -> None:
    """Main function of a benchmark that measures each case in a process of its own, where no
    earlier case has raised the peak of memory or fixed the number of devices.

    Prints a table of the rows, and writes them as JSON as they come.

    Args:
        description: the module's docstring.
        cases: keyword arguments of `measure`.
        measure: takes a case and `runs`, returns its row; an empty one is left out.
        study: key of a case; `--study` chooses cases by its value.
        runs: default of `--runs`.
    """
    studies = list(dict.fromkeys(str(case[study]) for case in cases))
    parser = make_parser(description, runs=runs, studies=studies)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    if arguments.case is not None:
        row = measure(**arguments.case, runs=arguments.runs)
        print(json.dumps({"device": jax.devices()[0].device_kind, "row": row}))
        return
    rows: list[Row] = []
    for case in cases:
        if str(case[study]) not in arguments.study:
            continue
        # The child names the device: if JAX looked here, it would take an accelerator's memory.
        device, row = child_result("--case", json.dumps(case)).values()
        if not row:
            continue
        rows.append(case | row)
        if len(rows) == 1:
            _print_cells(rows[0])
        _print_cells(rows[-1].values())
        write_json(arguments.json, {"device": device, "rows": rows})


def _print_cells(cells: Iterable[Any]) -> None:
    print(*(f"{cell!s:>23}" for cell in cells), flush=True)


def own_command(*flags: str) -> list[str]:
    """The command that this process was started with, and further flags."""
    return [sys.executable, *sys.orig_argv[1:], *flags]


def child_result(*flags: str) -> Any:
    """Runs this command again with further flags; returns the JSON of its last line of output."""
    done = subprocess.run(own_command(*flags), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
