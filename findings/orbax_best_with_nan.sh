#!/usr/bin/env bash
# One NaN among the metrics, and Orbax deletes the best checkpoint.
#
# Expected: a CheckpointManager that keeps the n best checkpoints ranks a NaN last, or refuses it.
# Happens: checkpoints are sorted by their metric with ordinary comparisons. NaN is neither less
#   nor greater than anything, so it stays about where it is and cuts the list in two: a value
#   before it is not compared with one behind it. The best checkpoint of the run can be deleted in
#   favour of a worse one that came later, and best_step() names the worse one, or the NaN itself.
#   max_to_keep with best_fn and the newer BestN policy do the same.
# Matters: metrics of generative models are NaN now and then (a diverged step that recovers, FID
#   of too few images, PSNR over an empty mask). Give Orbax -inf (or inf, for "min") instead.
# Tested: orbax-checkpoint 0.12.8, jax 0.10.2, Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2
cat > "$folder/best.py" <<'PY'
import logging
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

logging.getLogger("absl").setLevel(logging.ERROR)
print("orbax-checkpoint", version("orbax-checkpoint"), "jax", version("jax"))


def psnr_of(metrics):
    return metrics["psnr"]


def kept(name, series, **how):
    """Steps on disk after saving one checkpoint for each PSNR, and what Orbax calls the best."""
    options = ocp.CheckpointManagerOptions(
        best_fn=psnr_of, best_mode="max", enable_async_checkpointing=False, **how
    )
    folder = Path(sys.argv[1]) / name
    with ocp.CheckpointManager(folder, options=options) as manager:
        for step, psnr in enumerate(series):
            state = ocp.args.StandardSave({"w": np.ones(2)})
            manager.save(step, args=state, metrics={"psnr": psnr})
        return [int(path.name) for path in folder.iterdir()], manager.best_step()


nan = math.nan
best_n = ocp.checkpoint_managers.BestN(get_metric_fn=psnr_of, reverse=False, n=1)
print("one would guess: step 0, PSNR 30, is kept each time and is the best")
results = []
runs = [30.0, nan, 20.0, 21.0, 22.0], [30.0, 29.0, nan, 28.0, 27.0], [30.0, nan]
ways = {"max_to_keep": {"max_to_keep": 1}, "BestN": {"preservation_policy": best_n}}
for number, series in enumerate(runs):
    for how, options in ways.items():
        steps, best = kept(f"{number}{how}", series, **options)
        print(f"PSNR {series}, {how} 1: kept {steps}, best_step() {best}")
        results.append((steps, best))
clean = kept("clean", [30.0, 29.0, 28.0, 27.0], max_to_keep=1)
print(f"PSNR [30.0, 29.0, 28.0, 27.0]: kept {clean[0]}, best_step() {clean[1]}")
sys.exit(0 if clean == ([0], 0) and all(0 not in steps for steps, _ in results) else "no longer so")
PY
"$folder/venv/bin/python" "$folder/best.py" "$folder"
