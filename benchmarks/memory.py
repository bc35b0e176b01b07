"""Peak memory of calls, and studies whose every row runs in a process of its own.

A peak that an earlier row has reached would hide a later one; a fresh process has none.
"""

import argparse
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

Row = dict[str, Any]


def peak_growth(call: Callable[[], Any]) -> int:
    """Bytes by which a call's peak exceeds what was in use just before it.

    Of the accelerator's memory where there is one, otherwise of the process's resident memory
    (Linux). Compile before, but do not call: XLA keeps on the CPU what a first call allocated, and
    a second one would seem to need nothing.
    """
    if jax.default_backend() != "cpu":
        stats = jax.devices()[0].memory_stats
        before = stats()["bytes_in_use"]
        jax.block_until_ready(call())
        return stats()["peak_bytes_in_use"] - before
    ctypes.CDLL(None).malloc_trim(0)  # what compilation has freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = _status("VmRSS")
    jax.block_until_ready(call())
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def _print_line(cells: Iterable[Any]) -> None:
    print(*(f"{cell!s:>23}" for cell in cells), flush=True)


def run_study(module: str, cases: list[Row], measure: Callable[..., Row]) -> None:
    """Measures each case, prints a table of the rows and writes them as JSON as they come.

    Args:
        module: name under which `python -m` runs the study; it is started again for each case.
        cases: keyword arguments of `measure`.
        measure: one case to its row; may return an empty one, which is left out.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--row", type=json.loads, help="one case, in this process")
    arguments = parser.parse_args()
    if arguments.row is not None:
        row = measure(**arguments.row)
        print(json.dumps({"device": jax.devices()[0].device_kind, "row": row}))
        return
    rows: list[Row] = []
    for case in cases:
        command = [sys.executable, "-m", module, "--row", json.dumps(case)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        # The device is the child's to name: started here, JAX would take an accelerator's memory.
        device, row = json.loads(done.stdout.splitlines()[-1]).values()
        if not row:
            continue
        if not rows:
            _print_line(case | row)
        rows.append(case | row)
        _print_line(rows[-1].values())
        if arguments.json is not None:
            result = {"device": device, "jax": jax.__version__, "rows": rows}
            arguments.json.write_text(json.dumps(result, indent=2) + "\n")
