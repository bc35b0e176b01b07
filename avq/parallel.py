"""Data parallelism: the mesh, collectives, the compiled step, and what lies on which device."""

import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
SMALL = 2**12  # values of an array that is not worth a collective of its own


@dataclass(frozen=True)
class Parallel:
    """Settings of data parallelism."""

    devices: int = setting(
        0, "devices that share a batch; 0: all there are", low=0, high=2**20, free=True
    )
    fsdp: bool = setting(
        False,
        "whether parameters, averages and optimisers are split over the devices, too (ZeRO)",
        free=True,
    )
    gradient_dtype: Literal["float32", "bfloat16"] = setting(
        "float32",
        "type in which devices exchange gradients",
        choices=("float32", "bfloat16"),
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


def state_sharding(shape: tuple[int, ...], mesh: Mesh, fsdp: bool) -> NamedSharding:
    """Sharding of an array of the training state: whole on every device, or, where `fsdp` asks for
    it, split over all of them along its longest axis that they divide. Small arrays stay whole, and
    those that have no such axis.

    Source: Rajbhandari et al. (2020), "ZeRO", section 5, stage 3.
    """
    return NamedSharding(mesh, _spec(shape, mesh.size, fsdp))


def placed(state: Any, mesh: Mesh, fsdp: bool) -> Any:
    """The state with every array where `state_sharding` wants it. Inside `jax.jit` only."""
    return jax.tree.map(
        lambda a: lax.with_sharding_constraint(a, state_sharding(a.shape, mesh, fsdp)), state
    )


def init_placed(init: Callable[[], Any], mesh: Mesh, fsdp: bool) -> Any:
    """Runs `init` on the devices; the result is where `state_sharding` wants it."""
    options = cpu.compiler_options("once")
    return jax.jit(lambda: placed(init(), mesh, fsdp), compiler_options=options)()


def shapes(init: Callable[[], Any], mesh: Mesh, fsdp: bool) -> Any:
    """Shapes, types and shardings of `init_placed`'s result."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(
            a.shape, a.dtype, sharding=state_sharding(a.shape, mesh, fsdp)
        ),
        jax.eval_shape(init),
    )


def gathered(tree: Any, mesh: Mesh) -> Any:
    """The arrays whole on every device. They are one program: collectives of several, as
    `jax.device_put` makes them, can wait for one another.
    """
    return jax.jit(_same, out_shardings=replicated(mesh))(tree)


def _same(tree: Any) -> Any:
    return tree


def bytes_on_a_device(state: Any) -> int:
    """Bytes of a placed state, or of shapes with shardings, on the first device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )


def _spec(shape: tuple[int, ...], devices: int, fsdp: bool) -> P:
    axis = _split_axis(shape, devices) if fsdp else None
    return P() if axis is None else P(*(None,) * axis, AXIS)


def _split_axis(shape: tuple[int, ...], devices: int) -> int | None:
    divided = [axis for axis, length in enumerate(shape) if length and length % devices == 0]
    if devices == 1 or math.prod(shape) < SMALL or not divided:
        return None
    return max(divided, key=lambda axis: shape[axis])


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
    Inside `map_batch` only.
    """
    return jax.tree.map(lambda x: lax.pmean(x, AXIS) if _varies(x) else x, tree)


def mean_gradients(gradients: Any, settings: Parallel) -> Any:
    """Mean over devices of gradients, which differ between them; a device keeps its part of those
    that `state_sharding` splits. Inside `map_batch` only.
    """
    devices = lax.axis_size(AXIS)

    def mean(gradient: Array) -> Any:
        own = gradient.astype(settings.gradient_dtype)
        axis = _split_axis(gradient.shape, devices) if settings.fsdp else None
        if axis is None:
            total = lax.psum(own, AXIS)
        else:
            total = lax.psum_scatter(own, AXIS, scatter_dimension=axis, tiled=True)
        return total.astype(gradient.dtype) / devices

    return jax.tree.map(mean, gradients)


def device_varying(tree: Any) -> Any:
    """Marks replicated arrays as device-varying, so that autodiff does not sum their gradients over
    devices. Inside `map_batch` only.
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


def map_batch(
    function: Callable[[Any, Any], tuple[Any, Any]], mesh: Mesh, split: Any
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """`(whole, batch) -> (reduced, others)`, with the batch split over the mesh, and whatever else
    it takes and returns whole on every device. Inside `jax.jit` only.

    The collectives are in the function itself: it sees its device's part of the batch and the axis
    name `AXIS`.

    Args:
        function: of a device.
        mesh: devices.
        split: specs of its first result, of which a device may have a part; P() where it has none.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(split, P()))


def compile_step(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    dtype: str = "float32",
    deterministic: bool = False,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """`(state, frozen, batch) -> (state, metrics)`, compiled, with the state donated.

    Args:
        step: a pure function.
        dtype: compute type, which chooses options of the compiler.
        deterministic: see `Parallel`.
    """
    options = cpu.compiler_options("training", dtype)
    if deterministic and jax.default_backend() == "gpu":
        options |= DETERMINISTIC
    return jax.jit(step, donate_argnums=0, compiler_options=options)
