"""New pages of memory that a program's later calls touch, by `avq.cpu.keep_memory`.

python -m benchmarks.page_faults [--json FILE] [--runs N]
"""

import resource

import jax
import jax.numpy as jnp

from avq import cpu
from avq.bench import time_calls
from benchmarks._common import Row, run_cases


def measure(memory: str, runs: int) -> Row:
    """Page faults and time of a call that sorts a copy of 64 MiB, once it is warm."""
    if memory == "kept":
        cpu.keep_memory()
    x = jnp.ones((4096, 4096))
    call = jax.jit(lambda x: jnp.max(jnp.sort(x.reshape(-1, 4), 1)))
    time_calls(lambda: call(x), runs=2, warm_up=5)  # compiles, too
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times = time_calls(lambda: call(x), runs=runs, warm_up=0)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    mebibytes = pages * resource.getpagesize() / runs / 2**20
    return {"new_mib_per_call": round(mebibytes, 2), "ms": round(times.median, 1)}


CASES = [{"memory": "returned"}, {"memory": "kept"}]

if __name__ == "__main__":
    run_cases(__doc__, CASES, measure, study="memory", runs=10)
