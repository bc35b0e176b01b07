"""Small priors of every kind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avq.models.build import make_prior
from avq.models.prior.places import UNKNOWN

GRIDS, SIZES, CLASSES = ((4, 4), (2, 2)), (5, 7), 2
BATCH = 3
SMALL = {"width": 16, "depth": 2, "heads": 2, "dropout": 0.0, "code_dim": 8}


def small(kind: str, classes: int = CLASSES) -> tuple[Any, Any]:
    """A prior, and parameters far from their start, so that everything has an influence."""
    module: Any = make_prior({"kind": kind, **SMALL}, GRIDS, SIZES, classes)
    keys = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    variables = jax.jit(lambda: module.init(keys, codes(), labels(), method="nats"))()
    rng = np.random.default_rng(0)
    return module, jax.tree.map(
        lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), variables
    )


def codes(seed: int = 0, count: int = BATCH) -> tuple[Any, ...]:
    """Random grids of codes, finest level first."""
    rng = np.random.default_rng(seed)
    return tuple(
        jnp.asarray(rng.integers(0, size, (count, *grid)), jnp.int32)
        for grid, size in zip(GRIDS, SIZES, strict=True)
    )


def unknown(count: int = BATCH) -> tuple[Any, ...]:
    """Grids without a code."""
    return tuple(jnp.full((count, *grid), UNKNOWN, jnp.int32) for grid in GRIDS)


def labels(count: int = BATCH) -> Any:
    """Labels, that of no class among them."""
    return jnp.arange(count, dtype=jnp.int32) % (CLASSES + 1)
