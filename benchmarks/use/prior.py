"""Priors beside one another, the codec and PyTorch: bits a code, seconds an image, bytes a file.

    python -m benchmarks.prior --codes FOLDER --priors RUN ... [--study likelihood speed files twin]
        [--runs N] [--json FILE]

FOLDER is one of `avq tokenize`, whose test codes are measured, and as many training codes. Beside
the priors stand a table of frequencies, and the networks by which `avq compress` predicts codes;
both are fitted to the training codes. A masked prior's bits are an estimate of an upper bound.

Seconds an image are of a group of 16, codes and pixels, the median of `--runs` calls after one to
compile; those of a transformer without its cache, too.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from avq import cpu, parallel
from avq.apply.code_shards import read
from avq.apply.codec.coder import Coder
from avq.apply.codec.fitting import fit
from avq.apply.codec.image_file import pack, unpack
from avq.apply.codec.prior_codec import PriorCodec
from avq.apply.codec.stored import Codec
from avq.apply.prior import Prior, load_prior
from avq.apply.sample import GROUP, Sampler
from avq.bench import time_calls
from avq.data.dataset import evenly
from avq.evaluate.generation import frequency_bits
from avq.models.prior import Drawing, TransformerPrior
from avq.models.prior.drawing import draw_without_cache
from avq.models.prior.places import UNKNOWN, to_sequence
from avq.workers import usable_cores
from benchmarks._common import Row, make_parser, medians_in_turns, write_json

FILES = 100  # images whose files are written
Codes = Sequence[Integer[np.ndarray, "n _h _w"]]


def codec_bits(coder: Coder, codes: Codes) -> list[float]:
    """Mean bits of each level's codes by the codec."""
    images = zip(*(grid.astype(np.int32) for grid in codes), strict=True)
    total = np.sum([coder.bits(grids) for grids in images], axis=0)
    return [float(bits / grid.size) for bits, grid in zip(total, codes, strict=True)]


def prior_bits(prior: Prior, codes: Codes) -> list[float]:
    """Mean bits of each level's codes by a prior."""
    return [float(level.mean()) for level in prior.bits(codes)]


def likelihood_row(name: str, by_split: dict[str, list[float]], codes: Codes) -> Row:
    """Bits of a code by level and in all, of test and training codes."""
    row: Row = {"prior": name}
    places = [grid[0].size for grid in codes]
    for split, levels in by_split.items():
        whole = sum(n * bits for n, bits in zip(places, levels, strict=True))
        row[f"{split}_bits_per_code_by_level"] = levels
        row[f"{split}_bits_per_code"] = whole / sum(places)
    return row


def speeds(priors: Mapping[str, Prior], runs: int) -> Iterator[Row]:
    """Seconds an image of each prior; of a transformer without the cache, too."""
    for name, prior in priors.items():
        sampler = Sampler(prior.module, prior.tokenizer, Drawing(), parallel.make_mesh(1))
        labels = np.full(GROUP, len(prior.classes))
        draw = partial(sampler.groups, prior.variables, [0], 0, labels)
        yield {"prior": name, "seconds_per_image": _seconds(draw, runs, warm_up=1)}
        if isinstance(prior.module, TransformerPrior):
            seconds = _seconds(_without_cache(prior), runs=2, warm_up=0)
            yield {"prior": f"{name}, without cache", "seconds_per_image": seconds}


def files(priors: Mapping[str, Prior], folder: str) -> Iterator[Row]:
    """Bytes of files with the codec's networks and with each transformer, and milliseconds for
    each; the time of the encoder and the decoder of pixels is no part of them.
    """
    tokenizer = next(iter(priors.values())).tokenizer
    (_, train), (_, test) = (read(folder, split).arrays() for split in ("train", "test"))
    networks = fit([level.astype(np.int32) for level in train], tokenizer.codebooks)
    codecs: dict[str, Codec | PriorCodec] = {"codec": Codec(tokenizer.digest, networks)}
    exact = (name for name in priors if isinstance(priors[name].module, TransformerPrior))
    codecs |= {name: PriorCodec(priors[name]) for name in exact}
    some = [level[:FILES].astype(np.int32) for level in test]
    size = tokenizer.image_size, tokenizer.image_size
    for name, codec in codecs.items():
        row: Row = {"files": name, "bytes": 0.0, "encode_ms": 0.0, "decode_ms": 0.0}
        for codes in zip(*some, strict=True):
            began = time.perf_counter()
            data = pack(codes, size, codec)
            coded = time.perf_counter()
            found, _ = unpack(data, tokenizer, codec, "file")
            decoded = time.perf_counter()
            if not all(map(np.array_equal, found, codes)):
                raise SystemExit(f"{name}: decoded codes are not those that were coded")
            row["bytes"] += len(data) / FILES
            row["encode_ms"] += 1e3 * (coded - began) / FILES
            row["decode_ms"] += 1e3 * (decoded - coded) / FILES
        yield row


def twins(priors: Mapping[str, Prior], runs: int) -> Iterator[Row]:
    """Seconds an image of transformers and of their twins in PyTorch, codes alone, in turns."""
    try:
        import torch
    except ImportError:
        yield {"twin": "left out", "reason": "PyTorch is not installed"}
        return

    from benchmarks.speed.torch_prior import Prior as Twin
    from benchmarks.speed.torch_training import copy_variables

    torch.set_num_threads(usable_cores())
    for name, prior in priors.items():
        if not isinstance(prior.module, TransformerPrior):
            continue
        twin, variables = Twin(prior.module), jax.device_get(prior.variables)
        copy_variables(twin, variables)
        _require_equal_logits(prior, twin, torch)
        sampler = Sampler(prior.module, prior.tokenizer, Drawing(), parallel.make_mesh(1))
        labels = np.full(GROUP, len(prior.classes))
        calls = {
            "ours": partial(sampler.codes, prior.variables, [0], 0, labels),
            "torch": partial(twin.draw, GROUP),
        }
        medians = medians_in_turns(calls, rounds=3, runs=runs)
        seconds = {f"{key}_seconds_per_image": ms / 1e3 / GROUP for key, ms in medians.items()}
        yield {"twin": name, **seconds, "ratio": medians["ours"] / medians["torch"]}


def _require_equal_logits(prior: Prior, twin: Any, torch: Any) -> None:
    """Compares logits of random codes."""
    module: Any = prior.module
    rng = np.random.default_rng(0)
    codes = tuple(
        jnp.asarray(rng.integers(size, size=(2, *grid)), jnp.int32)
        for size, grid in zip(module.codebook_sizes, module.grids, strict=True)
    )
    labels = jnp.full(2, len(prior.classes), jnp.int32)
    ours = jax.jit(lambda v: module.apply(v, codes, labels))(prior.variables)
    theirs = twin.logits(torch.tensor(np.asarray(to_sequence(codes)), dtype=torch.int64))
    for mine, other in zip(reversed(ours), theirs, strict=True):
        np.testing.assert_allclose(np.asarray(mine).reshape(other.shape), other.numpy(), atol=2e-3)


def _seconds(draw: Callable[[], Any], runs: int, warm_up: int) -> float:
    """Median seconds of drawing a group, for each of its images."""
    return time_calls(draw, runs=runs, warm_up=warm_up).median / 1e3 / GROUP


def _without_cache(prior: Prior) -> Any:
    """A call that draws a group without the cache, compiled."""
    start = tuple(jnp.full((GROUP, *grid), UNKNOWN, jnp.int32) for grid in prior.module.grids)
    labels = jnp.full(GROUP, len(prior.classes), jnp.int32)
    keys = jax.random.split(jax.random.key(0), GROUP)
    draw = jax.jit(
        lambda v: draw_without_cache(prior.module, v, start, labels, keys, Drawing()),
        compiler_options=cpu.compiler_options("inference"),
    )
    compiled = draw.lower(prior.variables).compile()
    return lambda: prior.tokenizer.decode(jax.device_get(compiled(prior.variables)))


def likelihoods(priors: Mapping[str, Prior], folder: str) -> Iterator[Row]:
    """Rows of all that predict codes."""
    tokenizer = next(iter(priors.values())).tokenizer
    (_, train), (_, test) = (read(folder, split).arrays() for split in ("train", "test"))
    some = tuple(level[evenly(len(level), len(test[0]))] for level in train)
    coder = Coder(fit([level.astype(np.int32) for level in train], tokenizer.codebooks))
    measures: dict[str, Callable[[Codes], list[float]]] = {
        "frequencies": lambda codes: frequency_bits(train, codes, tokenizer.codebook_sizes),
        "codec": partial(codec_bits, coder),
    }
    measures |= {name: partial(prior_bits, prior) for name, prior in priors.items()}
    for name, measure in measures.items():
        yield likelihood_row(name, {"test": measure(test), "train": measure(some)}, test)


def main() -> None:
    parser = make_parser(__doc__, runs=3, studies=("likelihood", "speed", "files", "twin"))
    parser.add_argument("--codes", required=True, metavar="FOLDER", help="of avq tokenize")
    parser.add_argument("--priors", nargs="+", required=True, metavar="RUN", help="of priors")
    arguments = parser.parse_args()
    cpu.keep_memory()
    priors = {name: load_prior(name) for name in arguments.priors}
    rows = {
        "likelihood": lambda: likelihoods(priors, arguments.codes),
        "speed": lambda: speeds(priors, arguments.runs),
        "files": lambda: files(priors, arguments.codes),
        "twin": lambda: twins(priors, arguments.runs),
    }
    results: Row = {}
    for study in arguments.study:
        results[study] = []
        for row in rows[study]():
            print(row, flush=True)
            results[study].append(row)
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
