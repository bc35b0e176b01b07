"""Muon: updates of matrices along their orthogonalised momentum.

Sources: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks"; Liu et al.
(2025), "Muon is scalable for LLM training", section 2.2, for the scale.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

MOMENTUM = 0.95
ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
# Root mean square of an update, about that of Adam's: one learning rate serves both.
RMS = 0.2


class MuonState(NamedTuple):
    """Number of updates so far, and the moving average of the gradients."""

    updates: Int[Array, ""]
    momentum: Any


def scale_by_muon() -> optax.GradientTransformation:
    """Replaces the gradients of kernels `[..., inputs, outputs]` by the orthogonalised Nesterov
    momentum of matrices `[product of the other axes, outputs]`, of root mean square `RMS`.

    As `optax.contrib.scale_by_muon`, but for rounding: kernels of one shape are a batch, so that
    the program is a few products, not hundreds, and compiles in a fraction of the time.
    """

    def init(params: Any) -> MuonState:
        return MuonState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: MuonState, params: Any = None) -> tuple[Any, MuonState]:
        keep, count = MOMENTUM, state.updates + 1
        momentum = jax.tree.map(lambda m, g: keep * m + (1 - keep) * g, state.momentum, gradients)
        of_next, of_now = (1 - keep ** (count + n) for n in (1.0, 0.0))
        ahead = jax.tree.map(
            lambda m, g: keep * m / of_next + (1 - keep) * g / of_now, momentum, gradients
        )
        leaves, structure = jax.tree.flatten(ahead)
        return jax.tree.unflatten(structure, orthogonalised(leaves)), MuonState(count, momentum)

    return optax.GradientTransformation(init, update)


def orthogonalised(kernels: Sequence[Array]) -> list[Array]:
    """Kernels whose matrices have singular values of about 1, times what makes `RMS` of it."""
    matrices = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
    wide = [m.T if m.shape[0] > m.shape[1] else m for m in matrices]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, matrix in enumerate(wide):
        groups.setdefault(matrix.shape, []).append(index)
    results: list[Any] = [None] * len(kernels)
    for (_, columns), indices in groups.items():
        batch = newton_schulz(jnp.stack([wide[index] for index in indices]))
        for index, matrix in zip(indices, batch * RMS * columns**0.5, strict=True):
            turned = matrix if wide[index] is matrices[index] else matrix.T
            results[index] = turned.reshape(kernels[index].shape)
    return results


def newton_schulz(x: Float[Array, "n r c"]) -> Float[Array, "n r c"]:
    """Matrices with the singular vectors of `x` and singular values of about 1 (0.7 to 1.2), but
    for those far smaller than the largest.
    """
    a, b, c = COEFFICIENTS

    def iterate(_: Any, x: Float[Array, "n r c"]) -> Float[Array, "n r c"]:
        square = x @ x.mT
        return a * x + (b * square + c * square @ square) @ x

    length = jnp.sqrt(jnp.sum(x * x, axis=(1, 2), keepdims=True))
    result: Array = lax.fori_loop(0, ITERATIONS, iterate, x / (length + 1e-8))
    return result
