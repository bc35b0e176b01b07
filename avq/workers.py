"""Independent workers: processes that each do their share of some work, known by number."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from avq.errors import InputError

AUTO = "auto"
FORM = re.compile(r"(\d+|auto)/(\d+)|auto")
USAGE = (
    "I/N (worker I of N, from 0), auto (in an array of Slurm) or auto/N (or in a Kubernetes Job)"
)
# Number of this process, as set by Slurm for each task of an array, and by Kubernetes for each pod
# of a Job with completionMode: Indexed.
SLURM, KUBERNETES = "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Worker:
    """One of several workers.

    Attributes:
        index: its number, from 0.
        count: number of workers.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This worker's items: those of number `index`, `index + count`, and so on."""
        return items[self.index :: self.count]


def worker_of(text: str, environ: Mapping[str, str] = os.environ) -> Worker:
    """Reads the number of this worker.

    Args:
        text: 'I/N'; 'auto' for the place of this task among those of its Slurm array; 'auto/N' for
            the number of a Slurm task or a Kubernetes pod, of N.
        environ: where schedulers say the number.

    Raises:
        InputError: for a text of another form, a number that is not below N, or where no scheduler
            has said a number.
    """
    form = FORM.fullmatch(text)
    if form is None:
        raise InputError(f"--worker={text} is not {USAGE}.")
    if text == AUTO:
        worker = _of_slurm_array(environ)
    else:
        index = _scheduled(text, environ) if form[1] == AUTO else int(form[1])
        worker = Worker(index, int(form[2]))
    if worker.index >= worker.count:
        raise InputError(
            f"--worker={text}: worker {worker.index} is none of {worker.count}, whose numbers go "
            "from 0 on."
        )
    return worker


def usable_cores() -> int:
    """Number of cores that this process may run on: under Slurm, often fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _scheduled(text: str, environ: Mapping[str, str]) -> int:
    """Number of this process as its scheduler counts."""
    given = [environ[name] for name in (SLURM, KUBERNETES) if environ.get(name, "").isdecimal()]
    if not given:
        raise InputError(
            f"--worker={text}: neither {SLURM} nor {KUBERNETES} is set. Start it as an array of "
            "Slurm or an Indexed Job of Kubernetes, or give I/N."
        )
    return int(given[0])


def _of_slurm_array(environ: Mapping[str, str]) -> Worker:
    """Place and number of the tasks of an array, whatever its first number."""
    names = (SLURM, *(f"SLURM_ARRAY_TASK_{name}" for name in ("MIN", "MAX", "COUNT")))
    given = [environ.get(name, "") for name in names]
    if not all(value.isdecimal() for value in given):
        raise InputError(
            f"--worker={AUTO}: this is no task of an array of Slurm ({SLURM} and its like are not "
            f"set). Give {AUTO}/N in an Indexed Job of Kubernetes, else I/N."
        )
    index, first, last, count = map(int, given)
    if last - first + 1 != count:
        raise InputError(
            f"--worker={AUTO}: the array's {count} tasks have numbers from {first} to {last} with "
            f"gaps. Give {AUTO}/N with the N of all workers."
        )
    return Worker(index - first, count)
