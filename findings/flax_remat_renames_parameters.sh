#!/usr/bin/env bash
# Turning nn.remat on in Flax Linen renames parameters and draws other initial values.
#
# Expected: remat trades time for memory and changes nothing else: same parameters, same results,
#   so that it can be turned on when a larger image no longer fits.
# Happens: a layer without a name of its own is named after its class, and nn.remat makes a new
#   class, CheckpointConv for Conv. Checkpoints of a model without remat do not load into the one
#   with it, and, as Linen derives each parameter's random key from its path, the same seed starts
#   another model. With an explicit name= both differences are gone.
# Matters: a study "with and without remat" compares two initialisations, a resumed run cannot
#   turn it on, and a released checkpoint is tied to a memory setting. Name every layer inside
#   nn.remat.
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


class Encoder(nn.Module):
    remat: bool
    names: tuple = (None, None)

    @nn.compact
    def __call__(self, x):
        conv = nn.remat(nn.Conv) if self.remat else nn.Conv
        x = nn.relu(conv(8, (3, 3), name=self.names[0])(x))
        return conv(4, (3, 3), name=self.names[1])(x)


print("flax", flax.__version__, "jax", jax.__version__)
key, x = jax.random.key(0), jnp.ones((1, 8, 8, 3))
print("one would guess: the same names and the same output of a new model")
outputs = {}
for names in ((None, None), ("first", "second")):
    for remat in (False, True):
        outputs[names, remat], variables = Encoder(remat, names).init_with_output(key, x)
        mean = float(jnp.mean(outputs[names, remat]))
        found = list(variables["params"])
        print(f"remat={remat!s:5} names={names}: {found}, mean output {mean:.6f}")

try:
    Encoder(remat=True).apply(Encoder(remat=False).init(key, x), x)
    loads = True
except flax.errors.ScopeCollectionNotFound as error:
    loads = False
    print("parameters without remat, applied with it:", type(error).__name__)

unnamed = bool(jnp.allclose(outputs[(None, None), False], outputs[(None, None), True]))
named = bool(jnp.allclose(outputs[("first", "second"), False], outputs[("first", "second"), True]))
raise SystemExit(0 if not loads and not unnamed and named else "no longer so")
PY
