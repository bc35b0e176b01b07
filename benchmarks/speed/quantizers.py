"""Quantisers beside vector-quantize-pytorch, and the time of each by the size of its codebook.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.quantizers [--json FILE] [--runs N] [--study equal time]

`equal`: both quantise the same latents by the same tables, in training; the share of codes that
differ, and the largest differences of vectors and of the latents' gradient of the vectors' weighted
sum plus the loss. Two rows differ by design: DiVeQ draws deviates, and the library passes the
gradient once for each codebook of residuals (findings/residual_vq_gradient_times_codebooks.sh).

`time`: milliseconds of a training call and update of each quantiser of `studies/quantizers64.py`,
for the finer latents of a batch.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import vector_quantize_pytorch as peers

from avq import cpu, tasks
from avq.models import quantizers
from avq.models.quantizers import Quantizer
from avq.study.definition import load, read_study
from benchmarks._common import Row, make_parser, medians_in_turns, write_json

K, D, SHAPE = 64, 8, (4, 16, 16)
STUDY = Path(__file__).parents[2] / "studies" / "quantizers64.py"

Tables = list[np.ndarray]


def deviates(*shape: int, seed: int) -> np.ndarray:
    """Normal deviates, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def training_call(quantizer: Quantizer) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Function of a training call, which returns its result and the updated state."""

    def call(variables: Any, z: Any, key: Any) -> tuple[Any, Any]:
        mutable, rngs = ["codebook"], {"codebook": key}
        result, state = quantizer.apply(variables, z, True, mutable=mutable, rngs=rngs)
        filled = {**variables, **state}
        _, state = quantizer.apply(filled, result.statistics, mutable=mutable, method="update")
        return result, state

    return call


def ours(quantizer: Quantizer, variables: Any, z: np.ndarray, weight: np.ndarray) -> list[Any]:
    """Codes, vectors and the latents' gradient."""
    call = training_call(quantizer)

    def loss(z: Any) -> tuple[Any, Any]:
        result, _ = call(variables, z, jax.random.key(0))
        return jnp.sum(weight * result.vectors) + result.loss, result

    gradient, result = jax.jit(jax.grad(loss, has_aux=True))(jnp.asarray(z))
    return [np.asarray(a) for a in (result.codes, result.vectors, gradient)]


def theirs(peer: Any, z: np.ndarray, weight: np.ndarray) -> list[Any]:
    """The same of a module of the library."""
    tokens = torch.tensor(z).reshape(len(z), -1, z.shape[-1]).requires_grad_()
    vectors, codes, *losses = peer.train()(tokens)
    loss = sum(loss.sum() for loss in losses)
    total = (torch.tensor(weight).reshape(tokens.shape) * vectors).sum() + loss
    gradient = torch.autograd.grad(total, tokens)[0]
    return [codes.numpy(), *(a.detach().numpy().reshape(z.shape) for a in (vectors, gradient))]


def table(*, unit: bool = False) -> np.ndarray:
    """Codes that both sides begin with."""
    rows = deviates(K, D, seed=2)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows


def moving(rows: np.ndarray) -> dict[str, Any]:
    """State of a codebook of moving averages whose every code was used once."""
    return {"embedding": rows, "counts": np.ones(len(rows), np.float32), "sums": rows}


def learned(rows: np.ndarray) -> dict[str, Any]:
    """Variables of a codebook that gradients move."""
    state = {"start": rows, "use": np.ones(len(rows), np.float32)}
    return {"params": {"embedding": np.zeros_like(rows)}, "codebook": state}


def with_tables(peer: Any, *codebooks: Any, rows: Tables) -> Any:
    """Puts tables into codebooks of the library; returns the module."""
    for codebook, own in zip(codebooks, rows, strict=True):
        codebook.embed.data.copy_(torch.tensor(own)[None])
        codebook.embed_avg.data.copy_(torch.tensor(own)[None])
    return peer


def vector_quantize(rows: np.ndarray, **options: Any) -> Any:
    """The library's plain vector quantiser with our table."""
    fields = {"dim": D, "codebook_size": K, "commitment_weight": 0.25, "rotation_trick": False}
    peer = peers.VectorQuantize(**(fields | options))
    return with_tables(peer, peer._codebook, rows=[rows])


def residual(rows: Tables) -> Any:
    """The library's residual quantiser with our tables."""
    fields = {"dim": D, "num_quantizers": 2, "commitment_weight": 0.25, "rotation_trick": False}
    peer = peers.ResidualVQ(codebook_size=len(rows[0]), **fields)
    return with_tables(peer, *(layer._codebook for layer in peer.layers), rows=rows)


def simvq(rows: np.ndarray) -> Any:
    """The library's SimVQ with our fixed codes, mapped by the identity."""
    peer = peers.SimVQ(D, K, rotation_trick=False)
    peer.frozen_codebook.copy_(torch.tensor(rows))
    peer.code_transform.weight.data.copy_(torch.eye(D))
    return peer


def cases() -> Mapping[str, tuple[Quantizer, Any, Any]]:
    """Our quantiser, its variables and the library's, by what they do."""
    fields: Any = {"codebook_size": K, "code_dim": D, "revive_below": 0.0}
    rows, unit, parts = table(), table(unit=True), [table()[:8], table()[8:16]]
    ema, gradient = quantizers.EMAQuantizer, quantizers.GradientQuantizer
    fixed = {"params": {"kernel": np.eye(D, dtype=np.float32)}, "codebook": {"embedding": rows}}
    two = {f"codebooks_{i}": moving(own) for i, own in enumerate(parts)}
    by_gradient = {"learnable_codebook": True, "ema_update": False}
    return {
        "ema": (ema(**fields), {"codebook": moving(rows)}, vector_quantize(rows)),
        "ema, unit length": (
            ema(**fields, unit_length=True),
            {"codebook": moving(unit)},
            vector_quantize(unit, use_cosine_sim=True),
        ),
        "ema, rotation": (
            ema(**fields, estimator="rotation"),
            {"codebook": moving(rows)},
            vector_quantize(rows, rotation_trick=True),
        ),
        "gradient": (gradient(**fields), learned(rows), vector_quantize(rows, **by_gradient)),
        "diveq": (
            quantizers.DiVeQQuantizer(**fields),
            learned(rows),
            vector_quantize(
                rows,
                **by_gradient,
                directional_reparam=True,
                directional_reparam_variance=1e-3,
                threshold_ema_dead_code=1,
            ),
        ),
        "simvq": (quantizers.SimVQQuantizer(codebook_size=K, code_dim=D), fixed, simvq(rows)),
        "residual": (quantizers.ResidualQuantizer(**fields), {"codebook": two}, residual(parts)),
        "fsq": (quantizers.FSQQuantizer(fsq_levels=(8, 6, 5)), {}, peers.FSQ([8, 6, 5])),
        "lfq": (
            quantizers.LFQQuantizer(bits=D, entropy_weight=0.0),
            {},
            peers.LFQ(dim=D, entropy_loss_weight=0.0, commitment_loss_weight=0.25),
        ),
        "bsq": (
            quantizers.BSQQuantizer(bits=D, entropy_weight=0.0),
            {},
            peers.LFQ(dim=D, entropy_loss_weight=0.0, commitment_loss_weight=0.25, spherical=True),
        ),
    }


def equal() -> list[Row]:
    """Compares all cases."""
    print(f"{'quantiser':<20}{'codes that differ':>18}{'vectors':>12}{'gradient':>12}")
    result = []
    for name, (quantizer, variables, peer) in cases().items():
        z = deviates(*SHAPE, quantizer.code_dim, seed=0)
        weight = deviates(*z.shape, seed=1)
        variables = jax.tree.map(jnp.asarray, variables)
        own, other = ours(quantizer, variables, z, weight), theirs(peer, z, weight)
        codes = numbered(other[0], name).reshape(own[0].shape)
        apart = [float(np.abs(a - b).max()) for a, b in zip(own[1:], other[1:], strict=True)]
        differing = float(np.mean(codes != own[0]))
        result.append({"quantizer": name, "codes_that_differ": differing})
        result[-1] |= {"vectors": apart[0], "gradient": apart[1]}
        print(f"{name:<20}{differing:>18.2%}{apart[0]:>12.1e}{apart[1]:>12.1e}", flush=True)
    return result


def numbered(codes: np.ndarray, name: str) -> np.ndarray:
    """The library's codes in our numbers: it has the first bit of a code last, and a number for
    each codebook of residuals.
    """
    if name in ("lfq", "bsq"):
        bits = [codes >> bit & 1 for bit in reversed(range(D))]
        return np.stack(bits, axis=-1) @ 2 ** np.arange(D)
    return codes @ np.array([1, 8]) if name == "residual" else codes


def times(runs: int) -> list[Row]:
    """Times the quantisers of the study."""
    print(f"{'quantiser':<20}{'ms':>10}")
    result = []
    for name, arguments in read_study(STUDY, {}).systems.items():
        config = load(arguments, name)
        task: Any = tasks.make_task(config)
        quantizer = task.model.make_quantizer().clone(axis_name=None)
        side = task.model.grids(config.data.image_size)[0]
        z = jnp.asarray(deviates(config.data.batch_size, side, side, quantizer.code_dim, seed=0))
        key = jax.random.key(0)
        compiled = partial(jax.jit, compiler_options=cpu.compiler_options())
        call, variables = compiled(training_call(quantizer)), quantizer.init(key, z, False)
        filled = {**variables, **call(variables, z, key)[1]}
        milliseconds = medians_in_turns({"ms": partial(call, filled, z, key)}, 3, runs)["ms"]
        result.append({"quantizer": name, "tokens": z.size // z.shape[-1], "ms": milliseconds})
        print(f"{name:<20}{milliseconds:>10.2f}", flush=True)
    return result


def main() -> None:
    """Runs the chosen parts."""
    parser = make_parser(__doc__, runs=5, studies=("equal", "time"))
    arguments = parser.parse_args()
    rows: dict[str, list[Row]] = {}
    for study in arguments.study:
        rows[study] = equal() if study == "equal" else times(arguments.runs)
        write_json(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
