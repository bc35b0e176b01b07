"""Attention by number of tokens, what it costs a system, and the search of the nearest code."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np

from avq.bench import program_memory, time_calls
from benchmarks._common import Row
from benchmarks.accelerator.parts import Case, LeftOut, Shared, rounded
from benchmarks.speed.attention import compiled_pass
from benchmarks.speed.code_search import SEARCHES, deviates, is_exact


def attention_cases(shared: Shared) -> Sequence[Case]:
    """AH over H, then each number of tokens, dense and in blocks."""
    return [
        Case({"ratio": "AH over H"}, partial(ah_over_h, shared)),
        *(
            Case(
                {"tokens": tokens, "form": form, "dtype": dtype},
                partial(attention, tokens, form, dtype, shared.sizes.runs),
            )
            for dtype in ("bfloat16", "float32")
            for tokens in shared.sizes.tokens
            for form in ("dense", "blockwise")
        ),
    ]


def attention(tokens: int, form: str, dtype: str, runs: int) -> Row:
    """Times the attention of one image, forward and backward."""
    step, inputs = compiled_pass(tokens, form, dtype)
    times = time_calls(lambda: step(*inputs), runs=runs, warm_up=1)
    return {"forward_backward_ms": rounded(times.median), "memory_bytes": program_memory(step)}


def ah_over_h(shared: Shared) -> Row:
    """Time of a training step with attention over one without, of the first case.

    Raises:
        LeftOut: where the systems' part has not both.
    """
    _, batch, precision = shared.first
    step_ms = {
        row["system"]: row["step_ms"]
        for row in shared.rows.get("systems", [])
        if (row["batch"], row["precision"], row["remat"]) == (batch, precision, False)
        and "step_ms" in row
    }
    if not {"ah_vqvae", "h_vqvae"} <= step_ms.keys():
        raise LeftOut("AH and H were not both measured")
    ratio = step_ms["ah_vqvae"] / step_ms["h_vqvae"]
    return {"batch": batch, "precision": precision, "value": rounded(ratio)}


def search_cases(shared: Shared) -> Sequence[Case]:
    """Each size, by one product and in blocks."""
    return [
        Case(
            {"tokens": tokens, "codes": codes, "width": width, "form": form},
            partial(search, tokens, codes, width, form, shared.sizes.runs),
        )
        for tokens, codes, width in shared.sizes.searches
        for form in SEARCHES
    ]


def search(tokens: int, codes: int, width: int, form: str, runs: int) -> Row:
    """Times one search, and checks its every choice."""
    z, codebook = deviates(tokens, codes, width)
    arrays = jnp.asarray(z), jnp.asarray(codebook)
    compiled = SEARCHES[form].lower(*arrays).compile()
    times = time_calls(lambda: compiled(*arrays), runs=runs, warm_up=1)
    return {
        "ms": rounded(times.median),
        "memory_bytes": program_memory(compiled),
        "exact": is_exact(z, codebook, np.asarray(compiled(*arrays))),
    }
