"""Training by several processes, on one host or many: how they connect."""

import os
from typing import Any

import jax

from avq.errors import InputError

# Number of tasks, set by Slurm's srun and Open MPI's mpirun for each task.
TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
FLAG = "--distributed"
USAGE = f"{FLAG}=HOST:PORT,PROCESSES,INDEX, with the address of process 0"


class NotConnected(Exception):
    """The other processes of a run could not be reached, or not in time."""


def initialize(flag: str | None) -> None:
    """Connects to the other processes of a run, if there are any. Call before anything asks JAX for
    its devices.

    Args:
        flag: None connects to those that `srun` or `mpirun` has started beside this one. "" lets
            JAX detect them, which works on Cloud TPU too. "HOST:PORT,PROCESSES,INDEX" gives the
            address at which process 0 listens, the number of processes, and the index of this one,
            from 0.

    Raises:
        InputError: for a flag of another form.
        NotConnected: when the others do not answer.
    """
    if flag is None and not any(int(os.environ.get(name) or 1) > 1 for name in TASKS):
        return
    given = _given(flag) if flag else {}
    # JAX would catch a SIGTERM that comes before the first step, and nobody would hear of it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NotConnected(
            f"could not reach the other processes: {reason}. Start all of them, or give {USAGE}."
        ) from error


def _given(flag: str) -> dict[str, Any]:
    address, *numbers = flag.split(",")
    if ":" not in address or len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
        raise InputError(f"{FLAG}={flag} is not {USAGE}.")
    processes, index = map(int, numbers)
    if index >= processes:
        raise InputError(f"{FLAG}={flag}: process {index} is none of 0 to {processes - 1}.")
    return {"coordinator_address": address, "num_processes": processes, "process_id": index}


def is_main_process() -> bool:
    """Whether this process is the one that writes files and prints for all."""
    return jax.process_index() == 0
