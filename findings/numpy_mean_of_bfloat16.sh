#!/usr/bin/env bash
# NumPy's mean of a bfloat16 array that came out of JAX is wrong by any factor.
#
# Expected: np.mean(x) of a JAX array in bfloat16 is the mean, rounded to bfloat16. NumPy adds up
#   float16 in float32, and jnp.mean does the same for bfloat16.
# Happens: bfloat16 in NumPy is the dtype of another package, ml_dtypes, for which NumPy's care
#   with half precision does not exist. Sums run in bfloat16, whose next number after 256 is 258,
#   so that adding ones stops at 256. The mean of a batch of 64 small images is 1500 times too
#   small. Nothing is raised or warned about.
# Matters: np.mean(jax.device_get(x)) is how losses, pixels, codebook statistics and masks are
#   often summed up on the host. Use jnp.mean, or x.astype(np.float32) first.
# Tested: numpy 2.4.6, ml_dtypes 0.6.0, jax 0.10.2, Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

print("numpy", np.__version__, "ml_dtypes", ml_dtypes.__version__, "jax", jax.__version__)
batch = jax.random.uniform(jax.random.key(0), (64, 64, 64, 3)).astype(jnp.bfloat16)
ones = jnp.ones(1000, jnp.bfloat16)
host_batch, host_ones = jax.device_get((batch, ones))

print("one would guess: np.mean is close to jnp.mean")
print("uniform pixels: jnp.mean", jnp.mean(batch), " np.mean", np.mean(host_batch))
print("                jnp.std ", jnp.std(batch), " np.std ", np.std(host_batch))
print("1000 ones:      jnp.sum ", jnp.sum(ones), " np.sum ", np.sum(host_ones))
print("the same ones in float16:          np.sum ", np.sum(host_ones.astype(np.float16)))
print("pixels after astype(np.float32):   np.mean", np.mean(host_batch.astype(np.float32)))

still = np.sum(host_ones) == 256 and float(np.mean(host_batch)) < 0.01 < float(jnp.mean(batch))
raise SystemExit(0 if still else "no longer so")
PY
