#!/usr/bin/env bash
# On a CPU, jax.checkpoint on each block of a network costs its time and saves no memory.
#
# Expected: the compiled gradient needs less memory, since only the borders of blocks are kept,
#   for a third more arithmetic; JAX's own list of what is saved (print_saved_residuals) agrees.
# Happens: the arithmetic is there, the saving is not: XLA for CPUs needs as much temporary memory
#   as without jax.checkpoint, or more. Inside lax.scan it works, as the backward pass is a loop
#   of its own there; scan with unroll=True loses it again.
# Matters: who sizes a model, or a test of memory, on a CPU sees no use in remat, and who trains
#   large images on CPUs pays for nothing. Write equal blocks as a scan, and ask
#   compiled.memory_analysis(), not the list of residuals.
# Tested: jax 0.10.2 (CPU), Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp

print("jax", jax.__version__, jax.default_backend())
weights = jnp.zeros((8, 8, 64, 64))  # 8 blocks of 8 layers
x = jnp.zeros((8192, 64))


def block(x, layers):
    for layer in layers:
        x = jnp.tanh(x @ layer)
    return x


def loop(block):
    def loss(weights, x):
        for layers in weights:
            x = block(x, layers)
        return jnp.sum(x**2)

    return loss


def scan(block, unroll=1):
    def loss(weights, x):
        x, _ = jax.lax.scan(lambda x, layers: (block(x, layers), None), x, weights, unroll=unroll)
        return jnp.sum(x**2)

    return loss


def cost(name, loss):
    compiled = jax.jit(jax.grad(loss)).lower(weights, x).compile()
    memory = compiled.memory_analysis().temp_size_in_bytes / 2**20
    flops = compiled.cost_analysis()["flops"] / 1e9
    print(f"{name:33} {memory:6.1f} MiB temporary, {flops:5.1f} GFLOP")
    return memory, flops


print("one would guess: a fraction of the memory with checkpoint, whichever way it is written")
plain, plain_flops = cost("Python loop", loop(block))
saved, saved_flops = cost("Python loop, checkpoint", loop(jax.checkpoint(block)))
scan_plain, _ = cost("scan (GFLOP of one round)", scan(block))
scan_saved, _ = cost("scan, checkpoint (of one round)", scan(jax.checkpoint(block)))
cost("scan, checkpoint, unroll=True", scan(jax.checkpoint(block), unroll=True))

still = saved > 0.9 * plain and saved_flops > 1.2 * plain_flops and scan_saved < 0.3 * scan_plain
raise SystemExit(0 if still else "no longer so")
PY
