"""Random variables for a module, drawn by numpy: nothing to compile, nothing left at 0 or 1."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType


def random_variables(module: nn.Module, *args: Any, seed: int = 0) -> dict[str, Any]:
    """Variables of `module.init(key, *args)` filled with random values; variances are positive."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args))
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name, noise = path[-1].key, rng.normal(size=leaf.shape)
        if name in ("var", "counts"):
            values = 0.5 + rng.uniform(size=leaf.shape)
        elif name == "kernel":
            values = noise / np.sqrt(leaf.size / leaf.shape[-1])
        else:
            values = 0.3 * noise + (name == "scale")
        return jnp.asarray(values.astype(leaf.dtype))

    variables: dict[str, Any] = jax.tree_util.tree_map_with_path(fill, shapes)
    return variables


def normal(*shape: int, mean: float = 0.0, seed: int = 0) -> jax.Array:
    """Float32 normal deviates."""
    return jnp.asarray(np.random.default_rng(seed).normal(mean, size=shape).astype(np.float32))


def part(variables: dict[str, Any], name: str) -> dict[str, Any]:
    """Variables of the submodule `name`."""
    return {collection: tree[name] for collection, tree in variables.items() if name in tree}


def size(tree: Any) -> int:
    """Number of values in a tree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def sharded(
    f: Callable[..., Any], devices: int, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """`f`, jitted under `jax.shard_map` over so many devices on the mesh axis 'data'."""
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs))
