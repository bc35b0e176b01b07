"""Workers as tasks of Ray, on this machine or on a cluster that runs already."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avq.errors import InputError
from avq.workers import Worker


def run_workers(
    call: Callable[..., Any],
    count: int,
    *,
    cores: int = 1,
    gpu: bool = False,
    on_done: Callable[[int], object] = lambda workers: None,
) -> Any:
    """Runs all workers and then finishes. A worker whose machine is lost is started again by Ray.

    Args:
        call: does a worker's share when called with `worker`, and ends the work with `finish`.
        count: number of workers.
        cores: that a worker needs.
        gpu: whether a worker takes a GPU where the cluster has any.
        on_done: called with 1 for each worker that is done.

    Returns:
        What `call` returns at the end.

    Raises:
        InputError: without Ray, or where `call` raises one.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs Ray. Run: pip install 'avq[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's makers
    with ray.init(log_to_driver=False):
        gpus = int(gpu and ray.cluster_resources().get("GPU", 0) > 0)
        task = ray.remote(num_cpus=cores, num_gpus=gpus)(_work)
        waiting = [task.remote(call, Worker(index, count), Path.cwd()) for index in range(count)]
        while waiting:
            done, waiting = ray.wait(waiting)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # without Ray's own lines
            on_done(len(done))
    return call(finish=True)


def _work(call: Callable[..., Any], worker: Worker, folder: Path) -> None:
    """Does a worker's share, in the folder where the command was given: a task begins elsewhere."""
    os.chdir(folder)
    call(worker=worker)
