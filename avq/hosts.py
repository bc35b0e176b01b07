"""Training by several processes, on one host or many: how they connect."""

import os
import re
import sys
import threading
from concurrent.futures import Future, TimeoutError
from typing import Any

import jax

from avq.errors import InputError

# Number of tasks, set by Slurm's srun and Open MPI's mpirun for each task.
TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
FLAG = "--distributed"
TOLD_AFTER = 10.0  # seconds of waiting for others after which it is told
GIVEN_UP_AFTER = 300.0  # and after which it ends
# A process that has not been heard of for so many seconds is dead, and JAX ends the others.
HEARTBEAT_TIMEOUT = 40
# Of errors of collectives whose other side is gone.
GONE = re.compile("gloo|nccl|coordination service|connection (closed|reset)", re.IGNORECASE)
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
        NotConnected: when they cannot be reached. When they have not come after `GIVEN_UP_AFTER`
            seconds, the process ends, with 75.
    """
    if flag is None and not any(int(os.environ.get(name) or 1) > 1 for name in TASKS):
        return
    given = _given(flag) if flag else {}
    # JAX would catch a SIGTERM that comes before the first step, and nobody would hear of it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        _connect(given)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NotConnected(
            f"could not reach the other processes: {reason}. Start all of them, or give {USAGE}."
        ) from error


def _connect(given: dict[str, Any]) -> None:
    """Connects in another thread, so that this one hears of signals and can give up before JAX,
    which would end the process by SIGABRT.
    """
    connected: Future[None] = Future()

    def connect() -> None:
        try:
            jax.distributed.initialize(
                **given,
                initialization_timeout=int(2 * GIVEN_UP_AFTER),
                heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            )
            connected.set_result(None)
        except BaseException as error:
            connected.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        return connected.result(TOLD_AFTER)
    except TimeoutError:
        wait = GIVEN_UP_AFTER - TOLD_AFTER
        print(f"waiting {wait:.0f} s more for the other processes", file=sys.stderr, flush=True)
    try:
        connected.result(wait)
    except TimeoutError:
        _leave(
            f"the other processes did not come in {GIVEN_UP_AFTER:.0f} s. Start all of them, or "
            f"give {USAGE}."
        )


def exit_if_gone(error: Exception) -> None:
    """Ends this process with 75, if an error is that of a collective whose other side is gone."""
    if jax.process_count() > 1 and GONE.search(str(error)):
        reason = " ".join(str(error).split())[:150]
        _leave(
            f"lost another process: {reason}. The same command continues from the newest "
            "checkpoint."
        )


def _leave(message: str) -> None:
    """Ends this process at once: in order, it would wait for the others, and JAX then end it by
    SIGABRT.
    """
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(os.EX_TEMPFAIL)


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
