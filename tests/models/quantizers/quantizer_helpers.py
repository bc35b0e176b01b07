"""Sizes, brute force and training calls that the tests of quantisers share."""

import jax
import jax.numpy as jnp
import numpy as np

from avq.models.quantizers import EMAQuantizer

K, D = 6, 3


def tiny(kind=EMAQuantizer, **fields):
    """A quantiser of K codes of D channels."""
    return kind(codebook_size=K, code_dim=D, **fields)


def nearest_by_brute_force(z, table):
    z, table = np.asarray(z, np.float64), np.asarray(table, np.float64)
    return np.argmin(((z[:, None] - table) ** 2).sum(-1), axis=1)


def train_and_update(quantizer, variables, z, key):
    """Result of a training call, and all variables after the update of the codebook."""
    rngs, mutable = {"codebook": key}, ["codebook"]
    result, filled = quantizer.apply(variables, z, True, mutable=mutable, rngs=rngs)
    _, updated = quantizer.apply(
        variables | filled, result.statistics, mutable=mutable, method="update"
    )
    return result, variables | updated


train = jax.jit(train_and_update, static_argnums=0)


def table_of(variables):
    """Codes of an EMA quantiser, or those of one whose parameters are added to where they began."""
    state = variables["codebook"]
    if "embedding" in state:
        return state["embedding"]
    return state["start"] + variables["params"]["embedding"]


def as_float32(tree):
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float32)), tree)


def consistent_state(counts, table):
    """Moving averages of a codebook whose every code sits at the mean of what chose it."""
    counts, table = np.asarray(counts, np.float32), np.asarray(table, np.float32)
    state = {"counts": counts, "embedding": table, "sums": table * counts[:, None]}
    return {"codebook": jax.tree.map(jnp.asarray, state)}


def is_row_of(rows, batch, atol=0.0):
    """For each of `rows`, whether it is one of `batch`."""
    rows, batch = np.asarray(rows), np.asarray(batch).reshape(-1, D)
    distance = np.max(np.abs(rows.reshape(-1, 1, D) - batch), axis=-1)
    return np.min(distance, axis=1) <= atol
