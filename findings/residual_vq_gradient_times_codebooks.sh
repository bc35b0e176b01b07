#!/usr/bin/env bash
# ResidualVQ of vector-quantize-pytorch passes the gradient to the encoder once for every codebook.
#
# Expected: a straight-through estimator hands the gradient of the quantised vectors to the latents
#   as it is, however many codebooks the vectors are the sum of.
# Happens: each of the N codebooks has a straight-through estimator of its own, and since the
#   vectors are their sum, the encoder receives N times the gradient: 8 times with 8 codebooks.
# Matters: quantised training then pulls N times as hard at the encoder as the same loss without
#   quantisation or with one codebook; a learning rate, a clipping of gradients or a weight of the
#   commitment, which is not multiplied, means another thing at each N.
# Tested: vector-quantize-pytorch 1.32.0, torch 2.13.0 (CPU), Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet vector-quantize-pytorch==1.32.0
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from vector_quantize_pytorch import ResidualVQ

print("vector-quantize-pytorch", version("vector-quantize-pytorch"), "torch", torch.__version__)
print("one would guess: a gradient of 1 at any number of codebooks")
torch.manual_seed(0)
seen = {}
for codebooks in (1, 2, 4, 8):
    quantizer = ResidualVQ(
        dim=4, num_quantizers=codebooks, codebook_size=16, rotation_trick=False
    ).train()
    latents = torch.randn(1, 100, 4, requires_grad=True)
    vectors, _, _ = quantizer(latents)
    gradient = torch.autograd.grad(vectors.sum(), latents)[0]
    seen[codebooks] = gradient.mean().item()
    print(f"  {codebooks} codebooks: {seen[codebooks]:.3f}")

so = all(abs(value - codebooks) < 1e-3 for codebooks, value in seen.items())
raise SystemExit(0 if so else "no longer so")
PY
