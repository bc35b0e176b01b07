"""Dense and blockwise pixel attention: time and memory of a forward and backward pass.

python -m benchmarks.attention [--json FILE] [--runs N] [--study TOKENS ...]
"""

import jax
import jax.numpy as jnp

from avq.bench import time_calls
from avq.models import attention
from benchmarks._common import Row, peak_growth, run_cases

WIDTH = 128
NORM: attention.Norm = "bias_clip"
CASES: list[Row] = [
    {"tokens": tokens, "form": form}
    for tokens in (1024, 4096, 16384)
    for form in ("dense", "blockwise")
]


def measure(tokens: int, form: str, runs: int) -> Row:
    """Times self-attention of one image in float32, with gradients of queries, keys and values."""
    attention.DENSE = 0 if form == "blockwise" else tokens**2
    *inputs, weight = jax.random.normal(jax.random.key(0), (4, 1, tokens, WIDTH))

    def weighted(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(weight * attention.attend(queries, keys, values, NORM))

    step = jax.jit(jax.value_and_grad(weighted, (0, 1, 2))).lower(*inputs).compile()
    peak = peak_growth(lambda: step(*inputs))
    runs = min(runs, 3) if tokens > 8192 else runs
    times = time_calls(lambda: step(*inputs), runs=runs, warm_up=1)
    return {"forward_backward_ms": round(times.median, 2), "peak_memory_bytes": peak}


if __name__ == "__main__":
    run_cases(__doc__, CASES, measure, study="tokens", runs=10)
