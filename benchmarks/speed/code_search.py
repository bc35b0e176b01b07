"""Exact nearest-code search: ours in blocks, one product with argmin, vector-quantize-pytorch.

    python -m benchmarks.code_search [--json FILE] [--runs N] [--study CODES ...]

A choice is exact if, in float64, no code is nearer to its token than the chosen one by more than
float32 can resolve: 1e-5 of `|z|^2 + max |e|^2`. Every token is checked.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avq.bench import time_calls
from avq.models.quantizers.search import nearest_code
from benchmarks._common import Row, peak_growth, run_cases

# Bytes of a form for each pair of token and code; forms that need more than LIMIT are left out. The
# library allocates distances and a one-hot matrix, first in int64, then in float32.
FORMS = {"plain": 4, "blocked": 0, "vector-quantize-pytorch": 16}
LIMIT = 8e9
SIZES = (65536, 16384, 64), (16384, 16384, 64), (16384, 1024, 256), (4096, 262144, 32)
CASES: list[Row] = [
    {"tokens": tokens, "codes": codes, "width": width, "form": form}
    for tokens, codes, width in SIZES
    for form, pair_bytes in FORMS.items()
    if tokens * codes * pair_bytes <= LIMIT
]


def plain(z: jax.Array, codebook: jax.Array) -> jax.Array:
    """Nearest codes as one would first write them: all scores, then their argmin."""
    products = jnp.matmul(z, codebook.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.argmin(jnp.sum(codebook**2, axis=1)[None] - 2 * products, axis=1).astype(jnp.int32)


SEARCHES = {"plain": jax.jit(plain), "blocked": jax.jit(nearest_code)}


def deviates(tokens: int, codes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents and codes, float32."""
    rng = np.random.default_rng(0)
    z, codebook = (rng.normal(size=(n, width)).astype(np.float32) for n in (tokens, codes))
    return z, codebook


def peer(z: np.ndarray, codebook: np.ndarray) -> Callable[[], Any]:
    """Search of vector-quantize-pytorch, with our codebook, in evaluation mode."""
    import torch
    from vector_quantize_pytorch import VectorQuantize

    torch.set_num_threads(2)
    quantizer = VectorQuantize(dim=z.shape[1], codebook_size=len(codebook)).eval()
    quantizer._codebook.embed.data.copy_(torch.from_numpy(codebook)[None])
    tokens = torch.from_numpy(z)[None]

    def call() -> Any:
        with torch.inference_mode():
            return quantizer(tokens)[1][0].numpy()

    return call


def is_exact(z: np.ndarray, codebook: np.ndarray, codes: np.ndarray) -> bool:
    """Whether no choice misses its token's least distance by more than float32's rounding."""
    z, codebook = z.astype(np.float64), codebook.astype(np.float64)
    squares = (codebook**2).sum(1)
    for first in range(0, len(z), 256):  # not all at once: memory
        block = z[first : first + 256]
        scores = squares - 2 * block @ codebook.T
        ours = np.take_along_axis(scores, codes[first : first + 256, None], axis=1)[:, 0]
        allowed = 1e-5 * ((block**2).sum(1) + squares.max())
        if np.any(ours - scores.min(1) > allowed):
            return False
    return True


def measure(tokens: int, codes: int, width: int, form: str, runs: int) -> Row:
    """Times one search of normal deviates; empty for a library that is not installed."""
    z, codebook = deviates(tokens, codes, width)
    if form == "vector-quantize-pytorch":
        if find_spec("vector_quantize_pytorch") is None:
            return {}
        call = peer(z, codebook)
    else:
        arrays = jnp.asarray(z), jnp.asarray(codebook)
        call = partial(SEARCHES[form].lower(*arrays).compile(), *arrays)
    peak = peak_growth(call)
    runs = min(runs, 3) if tokens * codes > 2**26 else runs
    times = time_calls(call, runs=runs, warm_up=1)
    exact = is_exact(z, codebook, np.asarray(call()))
    return {"ms": round(times.median, 2), "peak_memory_bytes": peak, "exact": exact}


if __name__ == "__main__":
    run_cases(__doc__, CASES, measure, study="codes", runs=10)
