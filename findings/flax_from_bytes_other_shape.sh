#!/usr/bin/env bash
# flax.serialization fills a codebook of 8 codes from a file of 4, and nothing says so.
#
# Expected: from_bytes takes a target "to restore", so arrays of another shape are refused. The
#   documentation of from_state_dict, which it uses, gives shapes as a reason for having a target.
# Happens: only the names in the tree are compared. Arrays have the file's shape and dtype
#   whatever the target's were. For parameters Linen notices at the first apply; for any other
#   collection, such as a codebook kept by moving averages, or batch statistics, it never does. In
#   a compiled function an index past the end is moved to the last row, so codes 4 to 7 decode as
#   code 3.
# Matters: two runs that differ in codebook size only have the same tree. The wrong file gives
#   images, metrics, and a usage of at most half the codes. Compare jax.tree.map(jnp.shape, ...)
#   on loading.
# Tested: flax 0.12.8, jax 0.10.2, Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PY'
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.serialization import from_bytes, to_bytes


class Codebook(nn.Module):
    """The vectors of codes, either a parameter or a variable that moving averages change."""

    size: int
    trained: bool

    @nn.compact
    def __call__(self, codes):
        def start(*_):
            return jnp.arange(self.size * 2.0).reshape(self.size, 2)

        if self.trained:
            return self.param("vectors", start)[codes]
        return self.variable("codebook", "vectors", start).value[codes]


print("flax", flax.__version__, "jax", jax.__version__)
print("one would guess: from_bytes refuses 4 codes where the model has 8")
codes = jnp.arange(8)
seen = {}
for trained in (True, False):
    small, large = Codebook(4, trained), Codebook(8, trained)
    target = large.init(jax.random.key(0), codes)
    loaded = from_bytes(target, to_bytes(small.init(jax.random.key(0), codes)))
    shapes = jax.tree.map(jnp.shape, target), jax.tree.map(jnp.shape, loaded)
    print("target", shapes[0], "-> loaded", shapes[1])
    try:
        seen[trained] = jax.jit(large.apply)(loaded, codes)[:, 0].tolist()
    except flax.errors.ScopeParamShapeError as error:
        seen[trained] = type(error).__name__
    print("  vectors of codes 0 to 7, first entry:", seen[trained])
still = seen == {True: "ScopeParamShapeError", False: [0, 2, 4, 6, 6, 6, 6, 6]}
raise SystemExit(0 if still else "no longer so")
PY
