"""Options and settings for a CPU: known to this JAX, without effect on results."""

import platform
import subprocess
import sys

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq import cpu

FEWEST_FAULTS_OF_A_CALL = """
import resource
import jax, jax.numpy as jnp
from avq import cpu
from avq.train import loop
if {keep}: cpu.keep_memory()
x = jnp.zeros((16, 1 << 20))
# a temporary array and a result, each of 64 MiB
program = jax.jit(lambda x: jax.lax.optimization_barrier(x + 1) * x[::-1])
counts = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
for call in range(40):
    jax.block_until_ready(program(x))
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(min(after - before for before, after in zip(counts[30:], counts[31:])))
"""


def test_options_are_known_to_this_jax_and_change_results_by_rounding_at_most():
    options = cpu.compiler_options()
    assert options
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((2, 16, 16, 8), (3, 3, 8, 8)))

    def loss(x, kernel):
        h = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        h = (h - h.mean((0, 1, 2), keepdims=True)) @ kernel[1, 1]
        return jnp.mean(jnp.tanh(h) ** 2)

    gradients = jax.value_and_grad(loss, (0, 1))
    plain = jax.jit(gradients)(x, kernel)
    chosen = jax.jit(gradients, compiler_options=options)(x, kernel)
    chex.assert_trees_all_close(plain, chosen, rtol=1e-4, atol=1e-6)


def test_parameters_drawn_in_a_program_that_runs_once_are_the_same_but_for_rounding():
    options = cpu.compiler_options(once=True)
    assert options

    def draw():
        return nn.Conv(5, (3, 3)).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))

    default = {"xla_backend_optimization_level": 3}
    optimised = jax.jit(draw, compiler_options=default)()
    hurried = jax.jit(draw, compiler_options=options)()
    chex.assert_trees_all_close(hurried, optimised, rtol=1e-5, atol=1e-7)


def test_there_are_no_options_for_other_devices_or_a_jax_not_yet_tried(monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(jax, "default_backend", lambda: "gpu")
        assert cpu.compiler_options() == {}
    monkeypatch.setattr(jax, "__version_info__", (9, 0, 0))
    assert cpu.compiler_options() == {}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("keep", [True, False])
def test_a_process_that_keeps_memory_does_not_touch_it_afresh_at_every_call(keep):
    program = FEWEST_FAULTS_OF_A_CALL.format(keep=keep)
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    pages = (64 << 20) // 4096
    faults = int(printed.stdout)
    assert faults < pages / 100 if keep else faults > pages
