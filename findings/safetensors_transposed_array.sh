#!/usr/bin/env bash
# safetensors 0.8 writes a transposed NumPy array in the wrong order, without an error.
#
# Expected: an array that is not contiguous is copied into order, as in 0.7, or refused, as the
#   same package's PyTorch side does.
# Happens: since 0.8.0 safetensors.numpy takes the array's memory as it lies and writes the shape
#   of the view beside it. Read back, shape and dtype are right and the values are in wrong
#   places.
# Matters: between PyTorch and JAX every kernel is transposed (OIHW and HWIO), and a transpose in
#   NumPy is a view. Weights converted that way make a model that loads and gives noise. Save
#   np.ascontiguousarray(x). Reported to its authors; 0.8.0 was the newest release when this ran.
# Tested: safetensors 0.7.0 and 0.8.0, numpy 2.4.6, Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
cat > "$folder/kernel.py" <<'PY'
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load, save

torch_kernel = np.arange(36, dtype=np.float32).reshape(1, 4, 3, 3)  # OIHW
kernel = torch_kernel.transpose(2, 3, 1, 0)  # HWIO, as JAX has it
loaded = load(save({"kernel": kernel}))["kernel"]
copied = load(save({"kernel": np.ascontiguousarray(kernel)}))["kernel"]
print("safetensors", version("safetensors"), "numpy", np.__version__)
print("  kernel[0, 0, :, 0] saved ", kernel[0, 0, :, 0], kernel.shape, kernel.dtype)
print("  kernel[0, 0, :, 0] loaded", loaded[0, 0, :, 0], loaded.shape, loaded.dtype)
print("  equal:", np.array_equal(kernel, loaded), " copied first:", np.array_equal(kernel, copied))
PY
echo "one would guess: what is loaded equals what was saved, in both versions"
for release in 0.7.0 0.8.0; do
    "$folder/venv/bin/pip" install --quiet "safetensors==$release" numpy==2.4.6
    "$folder/venv/bin/python" "$folder/kernel.py" | tee "$folder/$release"
done
grep -q "equal: True  copied first: True" "$folder/0.7.0"
grep -q "equal: False  copied first: True" "$folder/0.8.0"
