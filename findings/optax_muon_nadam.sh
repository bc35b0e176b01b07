#!/usr/bin/env bash
# optax.contrib.muon trains what is no matrix by NAdam, not by the Adam that its documentation names.
#
# Expected: the documentation says that parameters which are no matrices go through AdamW with a
#   weight decay of 0, and their arguments are called adam_b1, adam_b2: so a bias moves as under
#   optax.adam(learning_rate, adam_b1, adam_b2). `nesterov` stands among the arguments of Muon.
# Happens: `nesterov`, which is on, holds for both halves. The first step of a bias is
#   1 + b1 (1 - b1) / (1 - b1^2) times the learning rate: 1.47 times at b1 0.9. With
#   nesterov=False the half is Adam, and Muon loses its own Nesterov momentum.
# Matters: moving a recipe from Adam to Muon changes biases, norms and embeddings, too. To have
#   Muon with Nesterov's momentum beside plain Adam, put both together with optax.partition.
# Tested: optax 0.2.8, jax 0.10.2 (CPU), Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optax==0.2.8 jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import optax
from optax import contrib

print("optax", optax.__version__, "jax", jax.__version__)
print("one would guess: the bias moves by the same under all of them")
params = {"kernel": jnp.eye(4), "bias": jnp.ones(4)}
gradients = {"kernel": jnp.eye(4), "bias": jnp.ones(4)}
rules = {
    "adam": optax.adam(0.01, b1=0.9, b2=0.99),
    "muon": contrib.muon(0.01, adam_b1=0.9, adam_b2=0.99),
    "muon, nesterov=False": contrib.muon(0.01, adam_b1=0.9, adam_b2=0.99, nesterov=False),
    "nadam": optax.nadam(0.01, b1=0.9, b2=0.99),
}
steps = {}
for name, rule in rules.items():
    updates, _ = rule.update(gradients, rule.init(params), params)
    steps[name] = float(updates["bias"][0])
    print(f"  {name:22}{steps[name]:10.5f}")

alike = lambda a, b: abs(steps[a] - steps[b]) < 1e-6
so = alike("muon", "nadam") and alike("muon, nesterov=False", "adam") and not alike("muon", "adam")
raise SystemExit(0 if so else "no longer so")
PY
