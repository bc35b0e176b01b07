"""Options and settings for a CPU: known to this JAX, without effect on results."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq import cpu


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


def test_inference_has_convolutions_of_onednn_and_the_same_results_but_for_rounding():
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((2, 16, 16, 8), (3, 3, 8, 8)))

    def conv(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", None, None, dimensions)

    with cpu.without_compilation_cache():
        options = cpu.compiler_options("inference")
        compiled = jax.jit(conv, compiler_options=options).lower(x, kernel).compile()
    if platform.machine() == "x86_64" and jax.__version_info__ >= (0, 11):
        assert "onednn" in str(compiled.as_text())
    chex.assert_trees_all_close(compiled(x, kernel), conv(x, kernel), rtol=1e-4, atol=1e-5)


def test_inference_can_be_cached_where_a_cache_is_set():
    config: Any = jax.config
    assert config.jax_compilation_cache_dir
    assert cpu.compiler_options("inference") == cpu.compiler_options("training")


def test_parameters_drawn_in_a_program_that_runs_once_are_the_same_but_for_rounding():
    options = cpu.compiler_options("once")
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


@pytest.fixture
def settings(monkeypatch):
    """Calls to the C library and to JAX, recorded and not made."""
    mallopt, update = [], []
    library = SimpleNamespace(mallopt=lambda *arguments: mallopt.append(arguments))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(jax.config, "update", lambda *arguments: update.append(arguments))
    return mallopt, update


def test_process_that_keeps_memory_neither_maps_nor_trims_and_calls_in_its_own_thread(settings):
    cpu.keep_memory()
    mallopt, update = settings
    assert mallopt == [(-4, 0), (-1, -1)]  # M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h
    assert update == [("jax_cpu_enable_async_dispatch", False)]


@pytest.mark.parametrize(("device", "libc"), [("gpu", "glibc"), ("cpu", "musl"), ("cpu", "")])
def test_memory_is_left_alone_on_other_devices_and_other_c_libraries(
    settings, monkeypatch, device, libc
):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, "1.0"))
    cpu.keep_memory()
    assert settings[0] == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_c_library_takes_the_settings():
    program = (
        "import ctypes; from avq import cpu; libc = ctypes.CDLL(None); "
        "print(libc.mallopt(cpu.M_MMAP_MAX, 0), libc.mallopt(cpu.M_TRIM_THRESHOLD, -1))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.split() == [b"1", b"1"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_what_was_freed_before_a_program_is_compiled_goes_back_to_the_system():
    program = """
import ctypes, jax
from avq import cpu

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
resident = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if "VmRSS" in l)

cpu.keep_memory()
blocks = [libc.malloc(10_000) for _ in range(20_001)]  # 200 MB, of which every page is used
for block in blocks:
    ctypes.memset(block, 1, 10_000)
for block in blocks[:-1]:  # the last one keeps the top of the heap
    libc.free(block)
kept = resident()
double = cpu.compiled(jax.jit(lambda x: 2 * x), 1.0)
print(kept - resident(), float(double(4.0)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    returned, result = done.stdout.split()
    assert int(returned) > 100_000  # kB
    assert float(result) == 8
