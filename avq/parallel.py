"""Data parallelism: the mesh, collectives, the compiled step, and batches on their devices."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from avq import cpu
from avq.settings import setting

AXIS = "data"  # the mesh axis over which a batch is split
# Leaves out what adds up in another order from run to run: scatters by atomic additions, and such
# algorithms of convolutions. Unlike `xla_gpu_deterministic_ops` it leaves autotuning on.
DETERMINISTIC = {"xla_gpu_exclude_nondeterministic_ops": True}


@dataclass(frozen=True)
class Parallel:
    """Settings of data parallelism."""

    devices: int = setting(
        0, "devices that share a batch; 0: all there are", low=0, high=2**20, free=True
    )
    deterministic: bool = setting(
        False,
        "whether steps on a GPU leave out operations whose results differ from run to run; those "
        "on a CPU never do",
        free=True,
    )


def make_mesh(devices: int = 0) -> Mesh:
    """A mesh of one axis, 'data', over the first `devices` devices, or over all of them for 0. The
    devices of a process are neighbours.

    Raises:
        ValueError: when there are not that many, or for a part of them where there are several
            processes.
    """
    available = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if not 0 <= devices <= len(available):
        raise ValueError(f"{devices} devices asked for, {len(available)} present; use 0 for all")
    count = devices or len(available)
    if jax.process_count() > 1 and count < len(available):
        raise ValueError(
            f"{devices} of {len(available)} devices asked for; several processes use 0"
        )
    return Mesh(np.array(available[:count]), (AXIS,), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """A mesh of the first device of this process alone."""
    return Mesh(np.array(jax.local_devices()[:1]), (AXIS,), axis_types=(AxisType.Auto,))


def device_in_words(mesh: Mesh) -> str:
    """Kind and number of devices: 'cpu: AMD EPYC 7B13, 2 cores', 'NVIDIA H100, 4 devices'."""
    device = mesh.devices.flat[0]
    count = f"{mesh.size} device{'s' if mesh.size > 1 else ''}"
    if device.platform != "cpu":
        return f"{device.device_kind}, {count}"
    name = cpu.described("model name") or platform.processor()
    words = f"cpu: {name}, {os.cpu_count()} cores"
    return words if mesh.size == 1 else f"{words}, {count}"


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays that every device holds whole, such as the training state."""
    return NamedSharding(mesh, P())


def init_replicated(init: Callable[[], Any], mesh: Mesh) -> Any:
    """Runs `init` on every device; the result is replicated."""
    options = cpu.compiler_options("once")
    return jax.jit(init, out_shardings=replicated(mesh), compiler_options=options)()


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts this host's part of the global batch on its devices, every array split along its first
    axis.
    """
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch
    )


def map_rows(
    function: Callable[[Any, Any], Any], mesh: Mesh, options: Mapping[str, Any]
) -> Callable[[Any, Any], Any]:
    """`(variables, rows) -> rows`, compiled, with the rows split over the mesh: every device runs
    the program that one device would run for its part alone.

    Args:
        function: of variables, which are replicated, and arrays whose first axis is that of rows.
        mesh: devices.
        options: of the compiler.
    """
    mapped = jax.shard_map(function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS))
    return jax.jit(mapped, compiler_options=dict(options))


def pmean(tree: Any) -> Any:
    """Mean over devices of the arrays that differ between them; replicated ones stay as they are.
    Inside `compile_step` only.
    """
    return jax.tree.map(lambda x: lax.pmean(x, AXIS) if _varies(x) else x, tree)


def device_varying(tree: Any) -> Any:
    """Marks replicated arrays as device-varying, so that autodiff does not sum their gradients over
    devices. Inside `compile_step` only.
    """
    return jax.tree.map(lambda x: lax.pcast(x, AXIS, to="varying"), tree)


def _varies(x: Array) -> bool:
    return AXIS in jax.typeof(x).manual_axis_type.varying


class DelayedMax:
    """Maximum over processes, delayed by one call: the reduction runs beside the next step instead
    of blocking it.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._compute = jax.jit(jnp.max, out_shardings=replicated(mesh))
        self._last: Any = 0

    def __call__(self, number: int) -> int:
        here = np.full(self._mesh.local_mesh.size, number, np.int32)
        last, self._last = self._last, self._compute(shard_batch(here, self._mesh))
        return int(last)


def compile_step(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    mesh: Mesh,
    dtype: str = "float32",
    deterministic: bool = False,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """`(state, frozen, batch) -> (state, metrics)`, with the batch split over the mesh, the rest
    replicated, and the state donated.

    The collectives are in `step` itself: it sees its device's part of the batch and the axis name
    `AXIS`.

    Args:
        step: a pure function.
        mesh: devices.
        dtype: compute type, which chooses options of the compiler.
        deterministic: see `Parallel`.
    """
    replicated_, split = P(), P(AXIS)
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(replicated_, replicated_, split),
        out_specs=(replicated_, replicated_),
    )
    options = cpu.compiler_options("training", dtype)
    if deterministic and jax.default_backend() == "gpu":
        options |= DETERMINISTIC
    return jax.jit(mapped, donate_argnums=0, compiler_options=options)
