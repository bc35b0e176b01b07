"""Functions of avq on this device beside their formulas in float64 on the host, and a training step
beside the plain formulation of `benchmarks.speed.reference_ops`.

Inputs are rounded to the compute type first, so that a difference is of the computation alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from avq import tasks
from avq.losses.adversarial import ADVERSARIAL
from avq.losses.reconstruction import mean_absolute_error
from avq.models import attention
from avq.models.convolutions import unit_stride_conv, upsampling_conv
from avq.models.norm import EPSILON, LEAK, norm_leaky
from avq.models.quantizers import EMAQuantizer
from benchmarks._common import Row, random_training
from benchmarks.accelerator.parts import Case, Shared
from benchmarks.accelerator.sizes import SHRUNK
from benchmarks.speed.code_search import SEARCHES, is_exact
from benchmarks.speed.reference_ops import reference_ops

Arrays = Sequence[Any]
STEP = "training step"
# Largest difference over the largest value, by type: some hundred roundings of a sum.
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}
STEP_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}  # of losses and gradient norms of a step


def deviates(dtype: str, *shapes: tuple[int, ...]) -> list[Any]:
    """Normal deviates, rounded to a type."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.dtype(dtype)) for shape in shapes]


def wide(*arrays: Any) -> list[np.ndarray]:
    """The same numbers in float64."""
    return [np.asarray(a, np.float64) for a in arrays]


def with_gradients(function: Callable[..., Any], weight: Any, *inputs: Any) -> list[Any]:
    """A function's value on the device, and the gradients of its weighted sum."""

    def weighted(*inputs: Any) -> tuple[Any, Any]:
        value = function(*inputs)
        return jnp.sum((value * weight).astype(jnp.float32)), value

    count = tuple(range(len(inputs)))
    gradients, value = jax.jit(jax.grad(weighted, count, has_aux=True))(*inputs)
    return [value, *gradients]


def attention_check(dtype: str, form: str) -> tuple[Arrays, Arrays]:
    """Attention with sigmoid weights of bias -log m, and its gradients."""
    *inputs, weight = deviates(dtype, *((2, 96, 16),) * 4)
    dense = 0 if form == "blockwise" else 2**26
    with mock.patch.multiple(attention, DENSE=dense, BLOCK=2**12):
        ours = with_gradients(partial(attention.attend, norm="bias"), weight, *inputs)
    q, k, v, g = wide(*inputs, weight)
    m, c = k.shape[1:]
    w = 1 / (1 + np.exp(np.log(m) - q @ k.swapaxes(1, 2) / np.sqrt(c)))
    d_logits = (g @ v.swapaxes(1, 2)) * w * (1 - w) / np.sqrt(c)
    gradients = d_logits @ k, d_logits.swapaxes(1, 2) @ q, w.swapaxes(1, 2) @ g
    return ours, [w @ v, *gradients]


def convolution_check(dtype: str) -> tuple[Arrays, Arrays]:
    """A 3x3 convolution, and its gradients."""
    x, kernel, weight = deviates(dtype, (2, 8, 8, 16), (3, 3, 16, 24), (2, 8, 8, 24))
    around = partial(unit_stride_conv, padding=((1, 1), (1, 1)))
    ours = with_gradients(lambda x, kernel: around(x, kernel), weight, x, kernel)
    x, kernel, g = wide(x, kernel, weight)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y, d_padded, d_kernel = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(kernel)
    for i, j in np.ndindex(3, 3):
        window = np.s_[:, i : i + 8, j : j + 8]
        y += padded[window] @ kernel[i, j]
        d_padded[window] += g @ kernel[i, j].T
        d_kernel[i, j] = np.einsum("bhwc,bhwf->cf", padded[window], g)
    return ours, [y, d_padded[:, 1:-1, 1:-1], d_kernel]


def upsampling_check(dtype: str) -> tuple[Arrays, Arrays]:
    """A transposed convolution of stride 2."""
    x, kernel = deviates(dtype, (2, 6, 6, 16), (3, 3, 16, 8))
    ours = jax.jit(upsampling_conv)(x, kernel)
    x, kernel = wide(x, kernel)
    y, padded = np.zeros((2, 12, 12, 8)), np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
    # y[2i] = k0 x[i-1] + k2 x[i], y[2i+1] = k1 x[i]: by phase, taps and how far each reaches back.
    taps = {0: ((0, 1), (2, 0)), 1: ((1, 0),)}
    for a, b in np.ndindex(2, 2):
        for i, up in taps[a]:
            for j, left in taps[b]:
                part = padded[:, 1 - up : 7 - up, 1 - left : 7 - left]
                y[:, a::2, b::2] += part @ kernel[i, j]
    return [ours], [y]


def norm_check(dtype: str) -> tuple[Arrays, Arrays]:
    """Batch norm with leaky ReLU, and the gradient of its input."""
    x, weight = deviates(dtype, (4, 8, 8, 16), (4, 8, 8, 16))
    scale, bias = deviates("float32", (16,), (16,))
    origin = jnp.zeros(16)
    ours = with_gradients(
        lambda x: norm_leaky(x, scale, bias, origin, jnp.dtype(dtype))[0], weight, x
    )
    x, g, scale, bias = wide(x, weight, scale, bias)
    over = (0, 1, 2)
    inverse = 1 / np.sqrt(x.var(over) + EPSILON)
    centred = (x - x.mean(over)) * inverse
    y = centred * scale + bias
    d = np.where(y >= 0, g, LEAK * g) * scale
    d_x = inverse * (d - d.mean(over) - centred * (d * centred).mean(over))
    return ours, [np.where(y >= 0, y, LEAK * y), d_x]


def losses_check(dtype: str) -> tuple[Arrays, Arrays]:
    """Mean absolute error, and the losses of both players."""
    images, targets, real, fake = deviates(dtype, *((4, 8, 8, 3),) * 2, *((4, 8, 8, 1),) * 2)
    ours: list[Any] = [mean_absolute_error(images=images, targets=targets)]
    logits = real.astype(jnp.float32), fake.astype(jnp.float32)
    for name in ("non_saturating", "hinge", "least_squares"):
        loss = ADVERSARIAL[name]
        ours += [loss.generator(logits[1]), loss.discriminator(*logits)]
    images, targets, r, f = wide(images, targets, real, fake)
    soft = partial(np.logaddexp, 0)
    pairs = (
        (soft(-f), soft(-r) + soft(f)),
        (-f, np.maximum(0, 1 - r) + np.maximum(0, 1 + f)),
        ((f - 1) ** 2, (r - 1) ** 2 + f**2),
    )
    means = [values.mean() for pair in pairs for values in pair]
    return ours, [np.abs(images - targets).mean(), *means]


def codebook_check(dtype: str) -> tuple[Arrays, Arrays]:
    """Moving averages of a codebook after a batch, summed by scattered additions."""
    z, table = deviates(dtype, (4, 16, 16, 8), (32, 8))
    z, table = z.astype(jnp.float32), table.astype(jnp.float32)
    module = EMAQuantizer(codebook_size=32, code_dim=8, revive_below=0.0)
    state = {"codebook": {"embedding": table, "counts": jnp.ones(32), "sums": table}}
    call = partial(module.apply, mutable=["codebook"])

    @jax.jit
    def update(state: Any, z: Any) -> tuple[Any, Any]:
        result, _ = call(state, z, True, rngs={"codebook": jax.random.key(0)})
        _, moved = call(state, result.statistics, method="update")
        return result.codes, moved["codebook"]

    codes, moved = update(state, z)
    z, table = wide(z.reshape(-1, 8), table)
    codes = np.asarray(codes).reshape(-1)
    counts, sums = np.bincount(codes, minlength=32), np.zeros_like(table)
    np.add.at(sums, codes, z)
    average, moved_sums = 0.99 + 0.01 * counts, 0.99 * table + 0.01 * sums
    return [moved["counts"], moved["sums"]], [average, moved_sums]


CHECKS: dict[str, Callable[[str], tuple[Arrays, Arrays]]] = {
    "attention, dense": partial(attention_check, form="dense"),
    "attention, blockwise": partial(attention_check, form="blockwise"),
    "convolution": convolution_check,
    "transposed convolution": upsampling_check,
    "batch norm, leaky ReLU": norm_check,
    "losses": losses_check,
    "codebook's moving averages": codebook_check,
}


def largest_difference(ours: Arrays, formula: Arrays) -> float:
    """Of all arrays the largest difference, relative to the array's largest value."""
    pairs = zip(wide(*ours), wide(*formula), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def check(name: str, dtype: str) -> Row:
    """Difference of one of `CHECKS`, and whether rounding explains it."""
    with jax.default_matmul_precision("highest"):
        difference = largest_difference(*CHECKS[name](dtype))
    return verdict(difference, TOLERANCES[dtype])


def verdict(difference: float, allowed: float) -> Row:
    """A row's figures."""
    return {"difference": difference, "allowed": allowed, "passed": bool(difference <= allowed)}


def search_check(dtype: str) -> Row:
    """Whether every choice of a search in blocks is a nearest code."""
    z, codebook = deviates(dtype, (4096, 32), (1024, 32))
    z, codebook = z.astype(jnp.float32), codebook.astype(jnp.float32)
    codes = SEARCHES["blocked"](z, codebook)
    return {"passed": is_exact(np.asarray(z), np.asarray(codebook), np.asarray(codes))}


class Steps:
    """First training steps of a small system, from the same state and batch."""

    def __init__(self) -> None:
        self.expected: dict[str, float] = {}

    def check(self, dtype: str) -> Row:
        """Largest relative difference of losses and gradient norms to the plain formulation in
        float32.
        """
        if not self.expected:
            with reference_ops():
                self.expected = self._first_step("float32")
        ours = self._first_step(dtype)
        differences = [
            abs(ours[name] - value) / abs(value) for name, value in self.expected.items()
        ]
        return verdict(max(differences), STEP_TOLERANCES[dtype])

    def _first_step(self, dtype: str) -> dict[str, float]:
        config = tasks.load(["--config=a_vqvae:tiny", *SHRUNK, f"--config.model.dtype={dtype}"])
        with jax.default_matmul_precision("highest"):
            metrics = random_training(config).step()
        # Mean logits are near 0: relative differences say nothing.
        return {n: float(value) for n, value in metrics.means.items() if "logit" not in n}


def cases(shared: Shared) -> Sequence[Case]:
    """Every check in both types."""
    steps = Steps()
    checks: dict[str, Callable[[str], Row]] = {name: partial(check, name) for name in CHECKS}
    checks |= {"nearest code": search_check, STEP: steps.check}
    return [
        Case({"check": name, "dtype": dtype}, partial(measure, dtype), compiles=name == STEP)
        for name, measure in checks.items()
        for dtype in TOLERANCES
    ]
