"""Compiler options and memory settings that speed up XLA on a CPU, without a change of results.

docs/PERFORMANCE.md has the figures, and other options that were tried.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import jax
from jax.experimental.compilation_cache import compilation_cache

# XLA gives convolutions to a library that is slower at their weight gradients than XLA's own code;
# matrix products and sums, at which that library is good, stay with it.
OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    ),
    # Operations in the order that needs least memory, not in one that lets more of them run beside
    # one another.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}
# XLA of JAX 0.11 and later can call oneDNN, which is faster at convolutions, above all in
# bfloat16, for which it has the processor's instructions. JAX's compilation cache cannot
# write programs that do.
ONEDNN = {"xla_cpu_experimental_onednn_custom_call": True}
# For a large program that runs once, such as parameter initialisation, LLVM's optimisation costs
# more than it saves.
OPTIONS_TO_RUN_ONCE = {"xla_backend_optimization_level": 0}
KNOWN_TO = (0, 13)  # JAX below this version knows the options, which are experimental
# What decides how fast matrix products are: float32 by the first two, bfloat16 by the others.
VECTOR_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
# Parameters of glibc's mallopt, from its malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


Use = Literal["training", "inference", "once"]


def compiler_options(use: Use = "training", dtype: str = "float32") -> dict[str, Any]:
    """For `jax.jit(..., compiler_options=...)`: options on a CPU, none on other devices.

    Args:
        use: "training" for the step, and for evaluation, whose figures are to be the same in the
            loop and out of it; "inference" for programs that only encode or decode, whose results
            may differ from those of training by rounding; "once" for a program that runs once, and
            should be compiled soon.
        dtype: compute type. A step in bfloat16 calls oneDNN, whatever it costs to compile it again
            at the next start; it is to be compiled by `compiled`.
    """
    if jax.default_backend() != "cpu" or jax.__version_info__[:2] >= KNOWN_TO:
        return {}
    if use == "once":
        return dict(OPTIONS_TO_RUN_ONCE)
    onednn = dtype == "bfloat16" if use == "training" else not _cached()
    return OPTIONS | (ONEDNN if onednn else {})


def instructions() -> tuple[str, ...]:
    """Those of `VECTOR_INSTRUCTIONS` that this processor has, by the names of Linux; none where it
    does not say.
    """
    flags = described("flags").split()
    return tuple(name for name in VECTOR_INSTRUCTIONS if name in flags)


def described(field: str) -> str:
    """What Linux says of the first processor, such as its 'model name'; '' where it does not."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _cached() -> bool:
    """Whether compiled programs are kept on disk."""
    settings: Any = jax.config
    return settings.jax_enable_compilation_cache and bool(settings.jax_compilation_cache_dir)


def keep_memory() -> None:
    """Lets this process keep the memory that it frees, where JAX runs on a CPU under glibc. To be
    called before JAX looks for devices.

    Every call of a compiled program asks for its temporary memory afresh and gives it back. Large
    requests then are new pages of the system, each of which costs a fault at its first touch. So
    they are to come from the heap, which is not to shrink. Only the main thread's heap can grow as
    far, so programs run in the thread that calls them. Only for programs of our own: these are
    settings of the whole process.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if _allocates_by_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)  # no request is a mapping of its own
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def compiled(step: Any, *arguments: Any, dtype: str = "float32") -> jax.stages.Compiled:
    """A jitted step compiled for arguments; a traced one has them already. One that calls oneDNN
    does not go to the compilation cache.

    On a CPU under glibc the compiler's memory goes back to the system: it is many small pieces, and
    what a program asks for is one large one, which would come on top.

    Args:
        step: with options of `compiler_options`.
        arguments: its arguments.
        dtype: that of its options.
    """
    keepable = not ONEDNN.keys() & compiler_options(dtype=dtype).keys()
    with nullcontext() if keepable else without_compilation_cache():
        program: jax.stages.Compiled = step.lower(*arguments).compile()
    if _allocates_by_glibc():
        ctypes.CDLL(None).malloc_trim(0)
    return program


@contextmanager
def without_compilation_cache() -> Iterator[None]:
    """Compiles afresh inside the context, and keeps nothing on disk."""
    settings: Any = jax.config
    before = settings.jax_enable_compilation_cache
    settings.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX reads the setting once
    try:
        yield
    finally:
        settings.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _allocates_by_glibc() -> bool:
    return jax.default_backend() == "cpu" and platform.libc_ver()[0] == "glibc"
