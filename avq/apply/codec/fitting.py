"""Fits the networks of a codec to codes, and rounds them to integers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from avq.apply.codec.network import EXACT, HIGHEST, LIKELIEST, MAX_CODES, Network, digits
from avq.apply.codec.order import contexts, kinds, slots, steps
from avq.errors import InputError

DIM = 8  # channels of an embedding
HIDDEN = 32
CAP = 6.0  # where hidden units are cut off
PER_NAT = 32  # places of the table of weights for a factor of e
BATCH, STEPS, CHECKS = 2048, 1500, 10
PASSES = 20  # at most, over the codes of a level
RATE = 4e-3
HELD_OUT = 8  # one in so many images, the last ones, choose the step that is kept

Params = Mapping[str, Array]
Samples = list[tuple[Int[np.ndarray, "_n s"], Int[np.ndarray, "_n"]]]  # contexts, ranks by kind


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
        tables = [table] if parent is None else [table, parent]
        ranks = clustered(table)
        train, check = (
            _samples([grids[chosen] for grids in codes[level : level + 2]], tables, ranks)
            for chosen in (~held_out, held_out)
        )
        start = _init(tables, train)
        params = _trained(start, train, check, numbers[level], on_steps)
        networks.append(rounded(params, ranks))
    return networks


def _steps_for(codes: int) -> int:
    return min(STEPS, max(CHECKS, PASSES * codes // BATCH))


def clustered(table: Float[np.ndarray, "k _d"]) -> Int[np.ndarray, "k"]:
    """Ranks of codes in clusters of near vectors: halves along the main direction, halved again."""
    clusters, places = digits(len(table))

    def halved(codes: Int[np.ndarray, "_n"], number: int) -> list[Int[np.ndarray, "_m"]]:
        if number == 1 or len(codes) < 2:
            return [codes]
        centred = table[codes] - table[codes].mean(axis=0)
        main = np.linalg.svd(centred.astype(np.float64), full_matrices=False)[2][0]
        ascending = codes[np.argsort(centred @ main, kind="stable")]
        half = number // 2
        cut = half * places
        return halved(ascending[:cut], half) + halved(ascending[cut:], number - half)

    return np.argsort(np.concatenate(halved(np.arange(len(table)), clusters)))


def _samples(
    grids: Sequence[Int[np.ndarray, "b _h _w"]],
    tables: Sequence[Float[np.ndarray, "_k _d"]],
    ranks: Int[np.ndarray, "_k"],
) -> Samples:
    """What is known around all codes of a level, and the ranks of these."""
    own, parent = grids[0], grids[1] if len(grids) > 1 else None
    found: list[Any] = [[] for _ in range(kinds(parent is not None))]
    _, height, width = own.shape
    for step in steps(height, width, has_parent=parent is not None):
        around = contexts(step, own, parent, [len(table) for table in tables])
        rows, columns = step.places
        flat = around.reshape(-1, around.shape[-1]).astype(np.int16)
        found[step.kind].append((flat, ranks[own[:, rows, columns].reshape(-1)].astype(np.int16)))
    none = np.zeros((0, slots(parent is not None)), np.int16), np.zeros(0, np.int16)
    joined = [[np.concatenate(parts) for parts in zip(none, *each, strict=True)] for each in found]
    return [(around, ranks) for around, ranks in joined]


def _init(tables: Sequence[Float[np.ndarray, "_k _d"]], train: Samples) -> Params:
    """Parameters that predict the frequency of each code, whatever is around it."""
    rng = np.random.default_rng(0)
    inputs = slots(len(tables) > 1) * DIM
    clusters, places = digits(len(tables[0]))
    ranks = np.concatenate([ranks for _, ranks in train])
    counts = np.bincount(ranks, minlength=clusters * places).reshape(clusters, places) + 0.5
    biases = (np.log(each / each.sum(axis=-1, keepdims=True)) for each in (counts.sum(1), counts))
    of_clusters, of_places = (
        np.insert(np.zeros((*bias.shape[:-1], HIDDEN, bias.shape[-1])), HIDDEN, bias, axis=-2)
        for bias in biases
    )
    params = {
        "embeddings": np.concatenate([_principal(table, rng) for table in tables]),
        "first": rng.normal(size=(len(train), inputs, HIDDEN)) / math.sqrt(inputs),
        "first_bias": np.zeros((len(train), HIDDEN)),
        "clusters": of_clusters,
        "places": of_places,
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


def _loss(
    params: Params, kind: Int[Array, ""], around: Int[Array, "n s"], ranks: Int[Array, "n"]
) -> Float[Array, ""]:
    """Mean nats of codes."""
    inputs = params["embeddings"][around.astype(jnp.int32)].reshape(len(around), -1)
    hidden = inputs @ params["first"][kind] + params["first_bias"][kind][None]
    hidden = jnp.pad(jnp.clip(hidden, 0, CAP), ((0, 0), (0, 1)), constant_values=1)
    cluster, place = jnp.divmod(ranks.astype(jnp.int32), params["places"].shape[2])
    # All places of all clusters: a matrix product takes less time than a matrix for each code.
    of_places = jnp.einsum("nh,chm->ncm", hidden, params["places"])
    chosen = jnp.take_along_axis(of_places, cluster[:, None, None], axis=1)[:, 0]
    nats = optax.softmax_cross_entropy_with_integer_labels
    return jnp.mean(nats(hidden @ params["clusters"], cluster) + nats(chosen, place))


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
    def update(params: Params, state: Any, kind: Any, around: Any, ranks: Any) -> Any:
        gradients = jax.grad(_loss)(params, kind, around, ranks)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state

    rng, state = np.random.default_rng(0), optimizer.init(params)
    sizes = np.array([len(ranks) for _, ranks in train])
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
    for kind, (around, ranks) in enumerate(samples):
        for start in range(0, min(len(ranks), 16 * BATCH), BATCH):
            rows = np.arange(start, start + BATCH) % len(ranks)
            n = min(BATCH, len(ranks) - start)
            total += n * float(loss(params, kind, around[rows], ranks[rows]))
            count += n
    return total / max(count, 1)


def rounded(params: Params, ranks: Int[np.ndarray, "_k"]) -> Network:
    """A network of integers that predicts what one of floats does, nearly.

    Every sum has as many bits as its range allows.
    """
    p = {name: np.asarray(values, np.float64) for name, values in params.items()}
    embedded = 127 / max(np.abs(p["embeddings"]).max(), 1e-6)
    units = HIGHEST / CAP  # of a hidden unit
    first, first_bias = p["first"] * units / embedded, p["first_bias"] * units
    bounds = [127 * np.abs(first).sum(axis=1).max() + np.abs(first_bias).max()]
    tables = []
    for table in (p["clusters"], p["places"]):
        weights, bias = table[..., :-1, :] / units, table[..., -1:, :]
        bias = bias - bias.max(axis=-1, keepdims=True)
        tables.append(PER_NAT * np.concatenate([weights, bias], axis=-2))
        bounds.append(PER_NAT * (HIGHEST * np.abs(weights).sum(axis=-2).max() + np.abs(bias).max()))
    shifts = [int(math.log2(EXACT / 2 / max(bound, 1.0))) for bound in bounds]
    steps = np.arange(int(PER_NAT * math.log(LIKELIEST)) + 1)

    def integers(values: np.ndarray, shift: int = 0) -> np.ndarray:
        rounded: np.ndarray = np.round(np.ldexp(values, shift)).astype(np.int32)
        return rounded

    return Network(
        embeddings=integers(p["embeddings"] * embedded),
        ranks=ranks.astype(np.int32),
        first=integers(first, shifts[0]),
        first_bias=integers(first_bias + 0.5, shifts[0]),
        clusters=integers(tables[0], shifts[1]),
        places=integers(tables[1], shifts[2]),
        shifts=np.array(shifts, np.int32),
        decay=np.round(LIKELIEST * np.exp(-steps / PER_NAT)).astype(np.int32),
    )
