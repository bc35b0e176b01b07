"""Compiler options and memory settings that speed up XLA on a CPU, without a change of results.

docs/PERFORMANCE.md has the figures, and other options that were tried.
"""

import ctypes
import platform
from pathlib import Path
from typing import Any, Literal

import jax

# XLA gives convolutions to a library that is slower at their weight gradients than XLA's own code;
# matrix products and sums, at which that library is good, stay with it.
OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    )
}
# XLA of JAX 0.11 and later can call oneDNN, which is faster at the convolutions of a forward pass
# and slower at weight gradients. JAX's compilation cache cannot write programs that do.
OPTIONS_OF_INFERENCE = {"xla_cpu_experimental_onednn_custom_call": True}
# For a large program that runs once, such as parameter initialisation, LLVM's optimisation costs
# more than it saves.
OPTIONS_TO_RUN_ONCE = {"xla_backend_optimization_level": 0}
KNOWN_TO = (0, 13)  # JAX below this version knows the options, which are experimental
# What decides how fast matrix products are: float32 by the first two, bfloat16 by the others.
VECTOR_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
# Parameters of glibc's mallopt, from its malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


Use = Literal["training", "inference", "once"]


def compiler_options(use: Use = "training") -> dict[str, Any]:
    """For `jax.jit(..., compiler_options=...)`: options on a CPU, none on other devices.

    Args:
        use: "training" for the step, and for evaluation, whose figures are to be the same in the
            loop and out of it; "inference" for programs that only encode or decode, whose results
            may differ from those of training by rounding; "once" for a program that runs once, and
            should be compiled soon.
    """
    if jax.default_backend() != "cpu" or jax.__version_info__[:2] >= KNOWN_TO:
        return {}
    if use == "once":
        return dict(OPTIONS_TO_RUN_ONCE)
    return OPTIONS | (OPTIONS_OF_INFERENCE if use == "inference" and not _cached() else {})


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
    if jax.default_backend() != "cpu" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)  # no request is a mapping of its own
    libc.mallopt(M_TRIM_THRESHOLD, -1)
