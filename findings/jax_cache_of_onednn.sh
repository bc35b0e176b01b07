#!/usr/bin/env bash
# JAX's compilation cache keeps no program that calls oneDNN: "MemoryError: std::bad_alloc".
#
# Expected: with jax_compilation_cache_dir set, a program that took long to compile is on disk for
#   the next process, whichever options it was compiled with.
# Happens: one that was compiled with XLA's option for oneDNN runs, and a warning says that its
#   entry could not be written for want of memory, of which there is plenty: such a program cannot be
#   serialised. The next process compiles it again, and warns again.
# Matters: the warning sends one looking for memory, and every start pays the whole compilation.
# Tested: jax and jaxlib 0.12.0.1 (CPU, x86-64), Python 3.12.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.12 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.12.0.1 jaxlib==0.12.0.1
"$folder/venv/bin/python" - "$folder/cache" <<'PY'
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax

cache = Path(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
print("jax", jax.__version__)
print("one would guess: an entry for each of the two programs")
x = jnp.ones((2, 8, 8, 16), jnp.bfloat16)
kernel = jnp.ones((3, 3, 16, 16), jnp.bfloat16)


def plain(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def by_onednn(x, kernel):
    return plain(x, kernel)


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    jax.jit(plain)(x, kernel)
    options = {"xla_cpu_experimental_onednn_custom_call": True}
    jax.jit(by_onednn, compiler_options=options)(x, kernel)
kept = {name: any(cache.glob(f"jit_{name}-*")) for name in ("plain", "by_onednn")}
messages = [str(warning.message) for warning in caught if "cache" in str(warning.message)]
print(" ", kept, *messages)
so = kept == {"plain": True, "by_onednn": False} and any("bad_alloc" in text for text in messages)
raise SystemExit(0 if so else "no longer so")
PY
