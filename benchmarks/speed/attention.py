"""Dense and blockwise pixel attention: time and memory of a forward and backward pass.

python -m benchmarks.attention [--json FILE] [--runs N] [--study TOKENS ...]
"""

from unittest import mock

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


def compiled_pass(
    tokens: int, form: str, dtype: str = "float32"
) -> tuple[jax.stages.Compiled, list[jax.Array]]:
    """Forward and backward pass of self-attention of one image: a program of queries, keys and
    values, with the gradients of all three, and inputs for it.

    Args:
        tokens: pixels of the grid.
        form: 'dense' or 'blockwise'.
        dtype: compute type.
    """
    shape = (4, 1, tokens, WIDTH)
    *inputs, weight = jax.random.normal(jax.random.key(0), shape, jnp.dtype(dtype))

    def weighted(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        products = weight * attention.attend(queries, keys, values, NORM)
        return jnp.sum(products.astype(jnp.float32))

    with mock.patch.object(attention, "DENSE", 0 if form == "blockwise" else tokens**2):
        lowered = jax.jit(jax.value_and_grad(weighted, (0, 1, 2))).lower(*inputs)
    return lowered.compile(), inputs


def measure(tokens: int, form: str, runs: int) -> Row:
    """Times attention in float32."""
    step, inputs = compiled_pass(tokens, form)
    peak = peak_growth(lambda: step(*inputs))
    runs = min(runs, 3) if tokens > 8192 else runs
    times = time_calls(lambda: step(*inputs), runs=runs, warm_up=1)
    return {"forward_backward_ms": round(times.median, 2), "peak_memory_bytes": peak}


if __name__ == "__main__":
    run_cases(__doc__, CASES, measure, study="tokens", runs=10)
