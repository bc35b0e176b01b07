#!/usr/bin/env bash
# Flax's GroupNorm makes features of standard deviation 700 where the mean of its input is large.
#
# Expected: whatever a normalisation layer is given, its output has a variance of 1. In float32,
#   numbers around 1000 with a deviation of 1 keep four digits of it: enough.
# Happens: the variance is computed as mean(x^2) - mean(x)^2 in float32, whose digits are used up
#   by the mean, and a negative result is set to 0. The layer then divides by the root of epsilon,
#   0.001 in GroupNorm, so what is left grows a thousandfold. LayerNorm and BatchNorm follow a
#   little later. use_fast_variance=False is right throughout. The documentation says that the
#   fast way is less stable, which sounds like a matter of digits; it is one of a factor of
#   hundreds.
# Matters: features without a norm in between reach such means (residual sums, sigmoid attention
#   over a thousand positions, raw 16-bit pixels). Nothing is NaN; the network's output explodes.
# Tested: flax 0.12.8, jax 0.10.2 (CPU), Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PY'
import flax
import flax.linen as nn
import jax
import numpy as np

print("flax", flax.__version__, "jax", jax.__version__)
print("one would guess: a standard deviation of 1.0 everywhere")
print("  mean of input   GroupNorm   LayerNorm   BatchNorm   GroupNorm, use_fast_variance=False")
layers = (
    nn.GroupNorm(8),
    nn.LayerNorm(),
    nn.BatchNorm(use_running_average=False),
    nn.GroupNorm(8, use_fast_variance=False),
)
noise = jax.random.normal(jax.random.key(0), (8, 16, 16, 32))
table = {}
for mean in (0, 100, 1000, 3000):
    x = noise + mean
    table[mean] = [
        float(np.std(layer.init_with_output(jax.random.key(0), x)[0])) for layer in layers
    ]
    print(f"  {mean:13}" + "".join(f"{value:12.3f}" for value in table[mean]))

right = all(abs(row[3] - 1) < 0.01 for row in table.values()) and abs(table[0][0] - 1) < 0.01
wrong = min(table[3000][:3]) > 10
raise SystemExit(0 if right and wrong else "no longer so")
PY
