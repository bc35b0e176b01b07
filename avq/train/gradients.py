"""Gradients of a batch, at once or in micro-batches."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from avq import parallel
from avq.train.state import split_codebook
from avq.train.task import Batch, Gradients, Params, Task, Variables

# Gradients of a (micro-)batch, given model state, batch and key.
GradientsOf = Callable[[Mapping[str, Variables], Batch, Array], Gradients]


def batch_gradients(
    model_state: Mapping[str, Variables],
    batch: Batch,
    key: Array,
    *,
    task: Task,
    params: Mapping[str, Params],
    frozen: Mapping[str, Any],
    step: Array,
) -> Gradients:
    """`Task.gradients`, with everything but the gradients reduced over devices.

    Args:
        model_state, batch, key: as for the task.
        params: device-varying, so that gradients are summed over devices once a step.
        task, frozen, step: as for the task.
    """
    gradients = task.gradients(params, model_state, frozen, batch, key, step)
    return replace(
        gradients,
        model_state=parallel.pmean(gradients.model_state),
        metrics=parallel.pmean(gradients.metrics),
    )


def accumulate_gradients(
    gradients_of: GradientsOf,
    model_state: Mapping[str, Variables],
    batch: Batch,
    key: Array,
    count: int,
) -> Gradients:
    """Means of gradients, model state and metrics over `count` micro-batches, and sums of counts
    and codebook statistics. The first micro-batch fills an empty codebook.

    Args:
        gradients_of: `batch_gradients` of a micro-batch.
        model_state, batch, key: as for `batch_gradients`; `count` divides the batch.
        count: number of micro-batches.
    """
    # Every count-th row, so that a part holds the same rows on any number of devices.
    parts = jax.tree.map(
        lambda a: jnp.moveaxis(a.reshape(-1, count, *a.shape[1:]), 1, 0), dict(batch)
    )
    others, codebooks = split_codebooks(model_state)

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        codebooks, total = carry
        number, batch = part
        part_key = jax.random.fold_in(key, number)
        gradients, codebooks = gradients_of_part(codebooks, batch, part_key)
        shares = tuple(level.in_turns(number, count) for level in gradients.statistics)
        gradients = replace(gradients, statistics=shares)
        return (codebooks, jax.tree.map(jnp.add, total, gradients)), None

    def gradients_of_part(codebooks: Any, batch: Batch, key: Array) -> tuple[Gradients, Any]:
        whole = {name: {**others[name], **codebooks[name]} for name in others}
        gradients = gradients_of(whole, batch, key)
        state, codebooks = split_codebooks(gradients.model_state)
        return replace(gradients, model_state=state), codebooks

    first = jax.tree.map(lambda a: a[0], parts)
    shapes, _ = jax.eval_shape(gradients_of_part, codebooks, first, key)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    zeros = replace(zeros, gradients=parallel.device_varying(zeros.gradients))
    (codebooks, total), _ = lax.scan(add, (codebooks, zeros), (jnp.arange(count), parts))
    mean: Gradients = jax.tree.map(lambda x: x / count, total)
    state = {name: {**mean.model_state[name], **codebooks[name]} for name in mean.model_state}
    return replace(mean, model_state=state, counts=total.counts, statistics=total.statistics)


def split_codebooks(
    model_state: Mapping[str, Variables],
) -> tuple[dict[str, Variables], dict[str, Variables]]:
    """`split_codebook` of every player."""
    parts = {name: split_codebook(variables) for name, variables in model_state.items()}
    return (
        {name: others for name, (others, _) in parts.items()},
        {name: codebook for name, (_, codebook) in parts.items()},
    )
