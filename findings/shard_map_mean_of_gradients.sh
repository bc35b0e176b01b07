#!/usr/bin/env bash
# The mean over devices of each device's gradient is N times the gradient inside jax.shard_map.
#
# Expected: as under pmap, each device has the gradient of its own loss, and pmean of them is the
#   gradient of the mean loss.
# Happens: with check_vma on, which it is unless turned off, the gradient of a parameter that is
#   the same on all devices is already summed over them when jax.grad returns; pmean of equal
#   numbers changes nothing. The result is N times too big on N devices. With check_vma off it is
#   right, but there the gradient of the pmean'ed loss, which is right with it on, is of one
#   device alone.
# Matters: no error, and Adam divides the factor away, so a loss curve does not show it. Weight
#   decay, clipping, SGD and gradient penalties see a gradient that grows with the number of
#   devices. Take the gradient of the pmean'ed loss, and compare gradients across device counts.
# Tested: jax 0.10.2 (4 CPU devices), Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp

jax.config.update("jax_num_cpu_devices", 4)
print("jax", jax.__version__, "on", jax.device_count(), "CPU devices")
mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
x = jnp.arange(8.0)
w = jnp.float32(1.0)


def loss(w, x):
    return jnp.mean((w * x) ** 2)


def mean_of_gradients(w, x):
    return jax.lax.pmean(jax.grad(loss)(w, x), "data")


def gradient_of_mean(w, x):
    return jax.grad(lambda w: jax.lax.pmean(loss(w, x), "data"))(w)


def on_devices(function, check_vma):
    P = jax.sharding.PartitionSpec
    sharded = jax.shard_map(
        function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=check_vma
    )
    return float(jax.jit(sharded)(w, x))


true = float(jax.grad(loss)(w, x))
print("one would guess: the gradient on one device,", true, "each time")
seen = {}
for check_vma in (True, False):
    for function in (mean_of_gradients, gradient_of_mean):
        seen[check_vma, function.__name__] = on_devices(function, check_vma)
        print(f"check_vma={check_vma}: {function.__name__:17}", seen[check_vma, function.__name__])
still = seen[True, "mean_of_gradients"] == 4 * true and seen[True, "gradient_of_mean"] == true
raise SystemExit(0 if still else "no longer so")
PY
