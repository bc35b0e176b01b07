"""Training by several processes, on one host or many: how they connect."""

import atexit
import contextlib
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, TimeoutError
from typing import Any, NoReturn

import jax
from jax._src import distributed  # of its client there is no public name; Orbax reads this one, too

from avq.errors import InputError

# Number of tasks, set by Slurm's srun and Open MPI's mpirun for each task.
TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
FLAG = "--distributed"
TOLD_AFTER = 10.0  # seconds of waiting for others after which it is told
GIVEN_UP_AFTER = 300.0  # and after which it ends
BEAT = 2.0  # seconds between two signs of life of a process
MISSED = 15  # so many of them missing, a process is lost
# Seconds without a heartbeat of its own after which JAX ends the others by SIGABRT; above 2 * 15.
HEARTBEAT_TIMEOUT = 60
ALIVE, ENDED = "avq/alive/", "avq/ended/"  # keys with JAX's service, by process
# Of errors of collectives whose other side is gone.
GONE = re.compile("gloo|nccl|coordination service|connection (closed|reset)", re.IGNORECASE)
OVER = "over"  # the sign of a process that has done its work
LEAVING = threading.Lock()
USAGE = f"{FLAG}=HOST:PORT,PROCESSES,INDEX, with the address of process 0"


class NotConnected(Exception):
    """The other processes of a run could not be reached, or not in time."""


def initialize(flag: str | None) -> None:
    """Connects to the other processes of a run, if there are any. From then on one that is lost
    ends this one with 75, and one that leaves with an exit code ends it with that. Call before
    anything asks JAX for its devices.

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
    _watch_others()


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
        line = f"the other processes did not come in {GIVEN_UP_AFTER:.0f} s. Start all of them, or"
        _leave(os.EX_TEMPFAIL, line=f"{line} give {USAGE}.")


def exit_if_gone(error: Exception) -> None:
    """Ends this process, if an error is that of a collective whose other side is gone: with 75, or
    the exit code that the other one has told.
    """
    if jax.process_count() > 1 and GONE.search(str(error)):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _follow_ended()
        _lost(str(error))


def leave(code: int) -> int:
    """Ends this process and the others with an exit code; returns the code if there are no others.
    In order, this process would wait for them, and they for it in a collective.
    """
    if jax.distributed.is_initialized():
        _leave(code, f"process {distributed.global_state.process_id}")
    return code


def _watch_others() -> None:
    """Watches the other processes, in a thread, until this one ends."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(over,), daemon=True)
    thread.start()

    def stop() -> None:  # before JAX ends its service, and Python the threads, in mid-call
        over.set()
        thread.join()

    atexit.register(stop)


def _watch(over: threading.Event) -> None:
    """Ends this process once another one is lost: a collective may then fail, or wait for ever.

    Every process leaves signs of life with JAX's service, where process 0 looks for them; it tells
    the others whom it misses.
    """
    service, index = _service(), distributed.global_state.process_id
    heard = {f"{ALIVE}{other}": ("", 0) for other in range(distributed.global_state.num_processes)}
    for beat in itertools.count():
        done = over.wait(BEAT)
        try:
            with _answered():
                sign = OVER if done else str(beat)
                service.key_value_set(f"{ALIVE}{index}", sign, allow_overwrite=True)
                if done:
                    return
                _follow_ended()
                silent = "" if index else _silent(service.key_value_dir_get(ALIVE), heard, beat)
        except jax.errors.JaxRuntimeError as error:
            _lost(f"process 0: {error}")
        if silent:
            _lost(f"process {silent} has not been heard of for {MISSED * BEAT:.0f} s")


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """Ends this process when process 0, which has JAX's service, does not answer in time."""
    alarm = threading.Timer(MISSED * BEAT, _lost, ("process 0 does not answer",))
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _service() -> Any:
    """Returns this process's client of JAX's service, to whose keys all processes have access."""
    return distributed.global_state.client


def _silent(signs: Iterable[tuple[str, str]], heard: dict[str, tuple[str, int]], beat: int) -> str:
    """Returns the index of a process whose sign of life has been the same for `MISSED` beats, or
    "", and keeps in `heard` what was heard of each, and at which beat.

    Beats are counted, not seconds: where all processes were halted for long, none is lost.
    """
    for name, sign in signs:
        if sign != heard[name][0] or sign == OVER:
            heard[name] = sign, beat
    lost = (name for name, (_, since) in heard.items() if beat - since >= MISSED)
    return next(lost, "").removeprefix(ALIVE)


def _follow_ended() -> None:
    """Ends this process as another one has told that it ended, if one has."""
    for _, told in _service().key_value_dir_get(ENDED):
        code, _, reason = told.partition(" ")
        time.sleep(BEAT)  # what ended that one may end this one, too, with a line of its own
        if int(code) == os.EX_TEMPFAIL:
            _lost(reason)
        _leave(int(code), reason, f"{reason} ended with exit code {code}; its own line says why.")


def _lost(reason: str) -> None:
    reason = " ".join(reason.split())[:150]
    _leave(
        os.EX_TEMPFAIL,
        reason,
        f"lost another process: {reason}. The same command continues from the newest checkpoint.",
    )


def _leave(code: int, reason: str = "", line: str = "") -> NoReturn:
    """Ends this process at once, with a line, and tells the others the code and the reason, if
    there is one. In order, it would wait for the others, and JAX then end it by SIGABRT.
    """
    LEAVING.acquire()  # one thread, one line
    if line:
        print(f"error: {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if reason:
        _tell(f"{code} {reason}")
    os._exit(code)


def _tell(message: str) -> None:
    """Tells the others, as far as process 0 answers, that this process ends. Process 0 then gives
    them time to go: its end is that of JAX's service, whereupon JAX ends them by SIGABRT.
    """

    def tell() -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # told already, or nobody there
            _service().key_value_set(f"{ENDED}{distributed.global_state.process_id}", message)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(BEAT)
    if distributed.global_state.process_id == 0:
        time.sleep(3 * BEAT)


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
