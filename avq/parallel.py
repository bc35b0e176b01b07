"""Data parallelism: the mesh, the compiled step, and batches on their devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from avq import cpu

AXIS = "data"  # the mesh axis over which a batch is split


def make_mesh(devices: int = 0) -> Mesh:
    """A mesh of one axis, 'data', over the first `devices` devices, or over all of them for 0.
    Those of a process stand side by side.

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


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of what every device holds whole: the training state."""
    return NamedSharding(mesh, P())


def everywhere(init: Callable[[], Any], mesh: Mesh) -> Any:
    """What `init` returns, computed on every device by itself."""
    options = cpu.compiler_options("once")
    return jax.jit(init, out_shardings=replicated(mesh), compiler_options=options)()


def place(batch: Any, mesh: Mesh) -> Any:
    """Puts a host's part of the global batch on its devices, split along the first axis of every
    array.
    """
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch
    )


class Largest:
    """The largest of the numbers that the processes gave one call before. Nothing waits for it: a
    call only looks at what was computed beside the step in between.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._compute = jax.jit(jnp.max, out_shardings=replicated(mesh))
        self._last: Any = 0

    def __call__(self, number: int) -> int:
        here = np.full(self._mesh.local_mesh.size, number, np.int32)
        last, self._last = self._last, self._compute(place(here, self._mesh))
        return int(last)


def compile_step(
    step: Callable[[Any, Any], tuple[Any, Any]], mesh: Mesh
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """`(state, batch) -> (state, metrics)`, with the batch split over the mesh, the rest
    replicated, and the state donated.

    The collectives stand in `step` itself: inside, it sees its device's part of the batch and the
    axis name `AXIS`.
    """
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P()))
    return jax.jit(mapped, donate_argnums=0, compiler_options=cpu.compiler_options())
