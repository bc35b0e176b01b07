"""Fits the networks of a codec to codes, and rounds them to integers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from avq.apply.codec.network import EXACT, HIGHEST, LIKELIEST, MAX_CODES, Network
from avq.apply.codec.order import AROUND, NEAR, contexts, kinds, steps
from avq.errors import InputError

DIM = 16  # channels of an embedding
HIDDEN = 64
CAP = 6.0  # where hidden units are cut off
PER_NAT = 32  # places of the table of weights for a factor of e
BATCH, STEPS, CHECKS = 2048, 1500, 10
PASSES = 20  # at most, over the codes of a level
RATE = 4e-3
HELD_OUT = 8  # one in so many images, the last ones, choose the step that is kept

Params = Mapping[str, Array]
Samples = list[tuple[Int[np.ndarray, "_n s"], Int[np.ndarray, "_n"]]]  # by kind of step


def fit(
    codes: Sequence[Int[np.ndarray, "b _h _w"]],
    vectors: Sequence[Float[np.ndarray, "_k _d"]],
    on_total: Callable[[int], object] = lambda total: None,
    on_steps: Callable[[int], object] = lambda steps: None,
) -> list[Network]:
    """Networks of the levels, finest first.

    Args:
        codes: grids of images, finest level first.
        vectors: of each level's codes.
        on_total: called with the number of steps.
        on_steps: called as steps are done.

    Raises:
        InputError: for codebooks of more than `MAX_CODES`.
    """
    if (most := max(map(len, vectors))) > MAX_CODES:
        raise InputError(f"codebooks of {most:,} codes are over {MAX_CODES:,}, the codec's limit.")
    networks, numbers = [], [_steps_for(grids.size) for grids in codes]
    on_total(sum(numbers))
    images = np.arange(len(codes[0]))
    held_out = images >= len(images) - len(images) // HELD_OUT
    for level, table in enumerate(vectors):
        parent = vectors[level + 1] if level + 1 < len(vectors) else None
        sizes = [len(table)] if parent is None else [len(table), len(parent)]
        train, check = (
            _samples([grids[chosen] for grids in codes[level : level + 2]], sizes)
            for chosen in (~held_out, held_out)
        )
        start = _init([table] if parent is None else [table, parent], train)
        networks.append(rounded(_trained(start, train, check, numbers[level], on_steps)))
    return networks


def _steps_for(codes: int) -> int:
    return min(STEPS, max(CHECKS, PASSES * codes // BATCH))


def _samples(grids: Sequence[Int[np.ndarray, "b _h _w"]], sizes: Sequence[int]) -> Samples:
    """What is known around all codes of a level, and the codes."""
    own, parent = grids[0], grids[1] if len(grids) > 1 else None
    found: list[Any] = [[] for _ in range(kinds(parent is not None))]
    _, height, width = own.shape
    for step in steps(height, width, has_parent=parent is not None):
        around = contexts(step, own, parent, sizes)
        rows, columns = step.places
        flat = around.reshape(-1, around.shape[-1]).astype(np.int16)
        found[step.kind].append((flat, own[:, rows, columns].reshape(-1).astype(np.int16)))
    none = (np.zeros((0, NEAR + len(AROUND) * (len(grids) > 1)), np.int16), np.zeros(0, np.int16))
    joined = [[np.concatenate(parts) for parts in zip(none, *each, strict=True)] for each in found]
    return [(around, codes) for around, codes in joined]


def _init(vectors: Sequence[Float[np.ndarray, "_k _d"]], train: Samples) -> Params:
    """Parameters that predict the frequency of each code, whatever is around it."""
    rng = np.random.default_rng(0)
    slots = NEAR + len(AROUND) * (len(vectors) > 1)
    codes = max(len(vectors[0]), 2)
    counts = np.stack([np.bincount(targets, minlength=codes) for _, targets in train])
    pooled = counts.sum(axis=0) + 0.5
    shares = counts + pooled / pooled.sum() * codes
    tables = [_principal(table, rng) for table in vectors]
    params = {
        "own": tables[0],
        "parent": tables[1] if len(vectors) > 1 else np.zeros((0, DIM)),
        "first": rng.normal(size=(len(train), slots * DIM, HIDDEN)) / math.sqrt(8 * slots),
        "first_bias": np.zeros((len(train), HIDDEN)),
        "second": np.zeros((HIDDEN, codes)),
        "second_bias": np.log(shares / shares.sum(axis=1, keepdims=True)),
    }
    return {name: jnp.asarray(values, jnp.float32) for name, values in params.items()}


def _principal(table: Float[np.ndarray, "k d"], rng: np.random.Generator) -> np.ndarray:
    """Embeddings to begin with: the codes' vectors in their main directions, of unit variance in
    the first; zeros for what lies outside.
    """
    centred = table.astype(np.float64) - table.mean(axis=0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    embedded = 0.1 * rng.normal(size=(len(table) + 1, DIM))
    width = min(DIM, turned.shape[1])
    embedded[:-1, :width] += turned[:, :width] / max(turned[:, 0].std(), 1e-6)
    embedded[-1] = 0
    return embedded


def _logits(params: Params, kind: Int[Array, ""], around: Int[Array, "n s"]) -> Array:
    near = params["own"][around[:, :NEAR]].reshape(len(around), -1)
    rest = params["parent"][around[:, NEAR:]].reshape(len(around), -1)
    inputs = jnp.concatenate([near, rest], axis=1)
    hidden = inputs @ params["first"][kind] + params["first_bias"][kind][None]
    return jnp.clip(hidden, 0, CAP) @ params["second"] + params["second_bias"][kind][None]


def _loss(
    params: Params, kind: Int[Array, ""], around: Int[Array, "n s"], codes: Int[Array, "n"]
) -> Float[Array, ""]:
    """Mean nats of codes."""
    logits = _logits(params, kind, around.astype(jnp.int32))
    each = optax.softmax_cross_entropy_with_integer_labels(logits, codes.astype(jnp.int32))
    return jnp.mean(each)


def _trained(
    params: Params,
    train: Samples,
    check: Samples,
    number: int,
    on_steps: Callable[[int], object],
) -> Params:
    """Parameters of the step that predicts the held-out codes best."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, number))

    @jax.jit
    def update(params: Params, state: Any, kind: Any, around: Any, codes: Any) -> Any:
        gradients = jax.grad(_loss)(params, kind, around, codes)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state

    rng, state = np.random.default_rng(0), optimizer.init(params)
    sizes = np.array([len(codes) for _, codes in train])
    loss = jax.jit(_loss)
    best, least = params, _mean(loss, params, check)
    for step in range(1, number + 1):
        kind = rng.choice(len(train), p=sizes / sizes.sum())
        rows = rng.integers(sizes[kind], size=BATCH)
        params, state = update(params, state, kind, *(values[rows] for values in train[kind]))
        on_steps(1)
        if step % (number // CHECKS) == 0 and (now := _mean(loss, params, check)) < least:
            best, least = params, now
    return best


def _mean(loss: Callable[..., Array], params: Params, samples: Samples) -> float:
    """Loss of all samples, a batch at a time, whose last is filled by repetition."""
    total, count = 0.0, 0
    for kind, (around, codes) in enumerate(samples):
        for start in range(0, min(len(codes), 16 * BATCH), BATCH):
            rows = np.arange(start, start + BATCH) % len(codes)
            n = min(BATCH, len(codes) - start)
            total += n * float(loss(params, kind, around[rows], codes[rows]))
            count += n
    return total / max(count, 1)


def rounded(params: Params) -> Network:
    """A network of integers that predicts what one of floats does, nearly.

    Every sum has as many bits as its range allows.
    """
    p = {name: np.asarray(values, np.float64) for name, values in params.items()}
    own, parent = (127 / max(np.abs(p[name]).max(initial=0), 1e-6) for name in ("own", "parent"))
    near = NEAR * p["own"].shape[1]
    units = HIGHEST / CAP  # of a hidden unit
    first = p["first"] * units
    first[:, :near] /= own
    first[:, near:] /= parent
    first_bias = p["first_bias"] * units
    first_sum = 127 * np.abs(first).sum(axis=1).max() + np.abs(first_bias).max()
    second = p["second"] * PER_NAT / units
    second_bias = (p["second_bias"] - p["second_bias"].max(axis=1, keepdims=True)) * PER_NAT
    second_sum = HIGHEST * np.abs(second).sum(axis=0).max() + np.abs(second_bias).max()
    shifts = [int(math.log2(EXACT / 2 / max(bound, 1.0))) for bound in (first_sum, second_sum)]
    steps = np.arange(int(PER_NAT * math.log(LIKELIEST)) + 1)

    def integers(values: np.ndarray, shift: int = 0) -> np.ndarray:
        rounded: np.ndarray = np.round(np.ldexp(values, shift)).astype(np.int32)
        return rounded

    return Network(
        own=integers(p["own"] * own),
        parent=integers(p["parent"] * parent),
        first=integers(first, shifts[0]),
        first_bias=integers(first_bias + 0.5, shifts[0]),
        second=integers(second, shifts[1]),
        second_bias=integers(second_bias, shifts[1]),
        shifts=np.array(shifts, np.int32),
        decay=np.round(LIKELIEST * np.exp(-steps / PER_NAT)).astype(np.int32),
    )
