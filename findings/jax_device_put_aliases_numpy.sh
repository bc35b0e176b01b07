#!/usr/bin/env bash
# On a CPU, jax.device_put(x, may_alias=False) shares its memory with the NumPy array.
#
# Expected: the docstring of device_put says of may_alias: "If False, `x` will be copied". So the
#   result is an array of its own, as that of jnp.array and jnp.asarray is.
# Happens: where the NumPy array begins at a multiple of 64 bytes, the result points to its memory,
#   whether may_alias is None, True or False. Writing to the NumPy array changes the "immutable"
#   JAX array. Elsewhere a copy is made, so that a program works or fails by how its arrays
#   happen to be allocated.
# Matters: weights that are read from a file into views of one buffer and put on the device share
#   that buffer. Filling the buffer again (a reader that reuses it) changes the parameters, and
#   donating the parameters to a jitted step hands the same memory over twice. jnp.array(x), or
#   jnp.copy of the result, makes a copy.
# Tested: jax 0.10.2, numpy 2.4.6, Python 3.11; jax 0.12.0.1 does the same. CPU only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__, "numpy", np.__version__)
print("docstring:", " ".join(jax.device_put.__doc__.split("may_alias:")[1].split())[:120])


def ones(offset):
    """1,024 float32 ones, so many bytes behind a multiple of 64."""
    memory = np.zeros(1024 * 4 + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    view = memory[first : first + 4096].view(np.float32)
    view[:] = 1
    return view


def after_write(put, offset=0):
    """First value of the JAX array once the NumPy array holds twos."""
    array = ones(offset)
    result = put(array).block_until_ready()
    array[:] = 2
    return float(result[0])


aliased = after_write(lambda x: jax.device_put(x, may_alias=False))
unaligned = after_write(lambda x: jax.device_put(x, may_alias=False), offset=16)
copied = after_write(jnp.array)
print("one would guess: 1.0 in every line, as a copy was asked for")
print("device_put(x, may_alias=False), x aligned to 64 bytes:", aliased)
print("device_put(x, may_alias=False), x aligned to 16 bytes:", unaligned)
print("jnp.array(x),                   x aligned to 64 bytes:", copied)
raise SystemExit(0 if (aliased, unaligned, copied) == (2.0, 1.0, 1.0) else "no longer so")
PY
