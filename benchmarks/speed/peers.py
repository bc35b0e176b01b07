"""Training, encoding and decoding beside PyTorch, OpenVINO, onnxruntime, diffusers and
vector-quantize-pytorch.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.peers [--json FILE] [--runs N] [--study NAME ...] [--dtype DTYPE]

The PyTorch twin carries our parameters, and its outputs have to equal ours before it is timed. All
calls are in one process, with the memory setting of `avq.cpu`, from which the peers gain as well. A
ratio is ours over the peer's: under 1, we are faster. On a GPU, convolutions and products are in
bfloat16 on both sides, by autocast on the peer's.

The study `memory` compares the peaks of resident memory of training, each in a process of its own
and above what it held before the model was built; there only ours has the memory setting.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import openvino
import torch
import vector_quantize_pytorch

from avq import cpu, parallel, tasks
from avq.models.quantizers import EMAQuantizer
from avq.workers import usable_cores
from benchmarks._common import (
    Call,
    Row,
    child_result,
    make_parser,
    medians_in_turns,
    random_batch,
    random_training,
    training_memory,
    write_json,
)
from benchmarks.speed.peer_calls import (
    TOLERANCES,
    AvqCalls,
    TorchCalls,
    TorchTraining,
    autocast,
    require_equal,
    torch_pixels,
)
from benchmarks.speed.quantizers import training_call
from benchmarks.speed.reference_ops import reference_ops
from benchmarks.speed.runtimes import RUNTIMES, RuntimeCalls, exported

STUDIES = ("tiny", "width64", "memory", "attention", "quantiser", "vqmodel")
# Adam, since torch.optim.Muon takes no kernels of convolutions.
TINY = [
    "--config=configs/ah_vqvae.py:tiny",
    "--config.optim.optimizer=adam",
    "--config.parallel.devices=1",
]
WIDTH_64 = [
    *TINY,
    "--config.model.base_filters=(64,64,64)",
    "--config.model.aren_filters=64",
    "--config.model.decoder_filters=(64,64,64,64)",
    "--config.model.code_dim=64",
    "--config.model.encoder_blocks=2",
    "--config.model.attention_dim=64",
    "--config.model.stride_at=last",
    "--config.discriminator.filters=(64,64,64,32,32,1)",
    "--config.discriminator.strides=(2,2,2,1,1,1)",
    "--config.data.batch_size=16",
]

Compare = Callable[[str, str, Call, dict[str, Call]], list[Row]]


def compare(case: str, what: str, ours: Call, peers: dict[str, Call], *, runs: int) -> list[Row]:
    """Times all calls in turns; a row for each peer."""
    medians = medians_in_turns({"ours": ours, **peers}, rounds=3, runs=runs)
    rows: list[Row] = [
        {
            "case": case,
            "what": what,
            "peer": peer,
            "ours_ms": medians["ours"],
            "peer_ms": medians[peer],
            "ratio": medians["ours"] / medians[peer],
        }
        for peer in peers
    ]
    for row in rows:
        print(
            "{case:<16}{what:<11}{peer:<36}{ours_ms:>9.1f}{peer_ms:>9.1f}{ratio:>8.2f}".format(
                **row
            )
        )
    return rows


def runtime_calls(twin: TorchCalls, dtype: str, device: str) -> dict[str, RuntimeCalls]:
    """Encoding and decoding of the twin by runtime; says which runtimes are left out."""
    able = [n for n, made in RUNTIMES.items() if device == "cpu" and made.computes_in(dtype)]
    for name in RUNTIMES:
        if name not in able:
            print(f"{name} does not compute in {dtype} on this {device}: left out")
    if not able:
        return {}
    inputs = {"encode": twin.pixels, "decode": twin.codes}
    models = {name: exported(twin.vqvae, name, x) for name, x in inputs.items()}
    return {n: RuntimeCalls(n, models, twin.pixels, twin.codes, dtype) for n in able}


def systems(compare: Compare, case: str, settings: list[str], device: str) -> list[Row]:
    """Training, encoding and decoding beside the twin, and beside our own reference operations and
    float32; the latter two beside runtimes that only infer, too.
    """
    config = tasks.load(settings)
    ours = AvqCalls(random_training(config))
    own = {}
    with reference_ops():
        own["ours, plain formulation"] = AvqCalls(random_training(config))
    if config.model.dtype != "float32":
        float32 = tasks.load([*settings, "--config.model.dtype=float32"])
        own["ours, float32"] = AvqCalls(random_training(float32))
    eager = TorchCalls(config, ours, device)
    runtimes = runtime_calls(eager, config.model.dtype, device)
    require_equal(ours, eager, config.model.dtype)
    for calls in runtimes.values():
        require_equal(ours, calls, config.model.dtype)
    compiled = TorchCalls(config, ours, device).compiled()
    rows = []
    for what in ("train", "encode", "decode"):
        peers = {
            "PyTorch twin, eager": getattr(eager, what),
            "PyTorch twin, torch.compile": getattr(compiled, what),
            **{name: getattr(calls, what) for name, calls in own.items()},
        }
        if what != "train":
            peers |= {name: getattr(calls, what) for name, calls in runtimes.items()}
        rows += compare(case, what, getattr(ours, what), peers)
    return rows


def peak_of_training(system: str, settings: list[str]) -> int:
    """Bytes that training needs in this process, see `training_memory`.

    Args:
        system: 'ours', with the memory setting of `python -m avq.main`, or 'twin', without.
        settings: of the config.
    """
    config = tasks.load(settings)
    if system == "ours":
        cpu.keep_memory()
        return training_memory(lambda: random_training(config).step)
    return training_memory(lambda: TorchTraining(config, "cpu").train)


def memory(case: str, settings: list[str]) -> Row:
    """Peaks of training, ours and the twin's, each in a process of its own."""
    ours, peer = (
        child_result("--peak-of", json.dumps({"system": system, "settings": settings})) / 2**20
        for system in ("ours", "twin")
    )
    row = {
        "case": case,
        "what": "memory",
        "peer": "PyTorch twin, eager",
        "ours_mib": ours,
        "peer_mib": peer,
        "ratio": ours / peer,
    }
    print(
        "{case:<16}{what:<11}{peer:<36}{ours_mib:>5.0f} MiB{peer_mib:>5.0f} MiB"
        "{ratio:>8.2f}".format(**row)
    )
    return row


def attention(compare: Compare, case: str, settings: list[str]) -> list[Row]:
    """Cost of attention in a training step: AH beside H."""
    ours, peer = (
        AvqCalls(random_training(tasks.load([*settings, *more])))
        for more in ([], ["--config.model.attention_norm=off"])
    )
    return compare(case, "train", ours.train, {"ours without attention (H)": peer.train})


def quantiser(compare: Compare, device: str) -> list[Row]:
    """Forward pass and moving-average update of one codebook, 16,384 tokens of 256 channels."""
    k, d, shape = 1024, 256, (16, 32, 32)
    z = np.random.default_rng(0).normal(size=(*shape, d)).astype(np.float32)
    module = EMAQuantizer(codebook_size=k, code_dim=d)
    state = module.init(jax.random.key(0), jnp.asarray(z), train=False)

    ours = jax.jit(training_call(module), compiler_options=cpu.compiler_options())
    peer = vector_quantize_pytorch.VectorQuantize(
        dim=d, codebook_size=k, decay=0.99, commitment_weight=0.25, threshold_ema_dead_code=0.03
    ).to(device)
    tokens = torch.tensor(z).reshape(shape[0], -1, d).to(device)
    x, key = jnp.asarray(z), jax.random.key(0)
    _, filled = ours(state, x, key)

    def theirs() -> float:
        with torch.no_grad():
            return float(peer(tokens)[2].sum())

    calls = {"vector-quantize-pytorch": theirs}
    return compare("K 1024, D 256", "quantiser", lambda: ours(filled, x, key), calls)


def vqmodel(compare: Compare, settings: list[str], device: str) -> list[Row]:
    """diffusers' VQModel with our grid of codes and about our width, reconstruction loss alone."""
    config = tasks.load([*settings, "--config.loss.adversarial_weight=0.0"])
    ours = AvqCalls(random_training(config))
    peer = diffusers.VQModel(
        block_out_channels=(64, 64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=64,
        vq_embed_dim=64,
        num_vq_embeddings=256,
        mid_block_add_attention=True,
    ).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-4, fused=True)
    pixels = torch_pixels(random_batch(config), device)
    precision = autocast(config, device)

    def train() -> float:
        peer.train()
        with precision():
            out = peer(pixels)
            loss = (out.sample - pixels).abs().mean() + out.commit_loss.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss)

    def encode() -> int:
        peer.eval()
        with torch.inference_mode(), precision():
            return int(peer.quantize(peer.encode(pixels).latents)[2][2].sum())

    with torch.inference_mode():
        latents = peer.encode(pixels).latents

    def decode() -> float:
        peer.eval()
        with torch.inference_mode(), precision():
            return float(peer.decode(latents).sample.sum())

    calls = {"train": train, "encode": encode, "decode": decode}
    rows = []
    for what, call in calls.items():
        rows += compare("width 64", what, getattr(ours, what), {"diffusers VQModel": call})
    return rows


def run(study: str, dtype: str, device: str, runs: int) -> list[Row]:
    """Rows of one of STUDIES."""
    tiny, width_64 = ([*case, f"--config.model.dtype={dtype}"] for case in (TINY, WIDTH_64))
    cases = {"ah_vqvae:tiny": tiny, "width 64": width_64}
    timed: Compare = partial(compare, runs=runs)
    match study:
        case "tiny":
            return systems(timed, "ah_vqvae:tiny", tiny, device)
        case "width64":
            return systems(timed, "width 64", width_64, device)
        case "memory" if device == "cpu":
            return [memory(*case) for case in cases.items()]
        case "memory":
            print("memory is left out: resident memory says nothing of a GPU's")
            return []
        case "attention":
            return [row for case in cases.items() for row in attention(timed, *case)]
        case "quantiser":
            return quantiser(timed, device)
        case _:
            return vqmodel(timed, width_64, device)


def main() -> None:
    parser = make_parser(__doc__, runs=5, studies=STUDIES)
    parser.add_argument("--dtype", choices=TOLERANCES, help="as in configs; bfloat16 on a GPU")
    parser.add_argument("--peak-of", type=json.loads, help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cores())
    if arguments.peak_of:
        print(json.dumps(peak_of_training(**arguments.peak_of)))
        return
    cpu.keep_memory()
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    dtype = arguments.dtype or ("float32" if device == "cpu" else "bfloat16")
    versions = {
        "device": parallel.device_in_words(parallel.make_mesh(1)),
        "torch": torch.__version__,
        "openvino": openvino.__version__.partition("-")[0],
        "onnxruntime": onnxruntime.__version__,
        "threads": usable_cores(),
        "dtype": dtype,
    }
    print(f"jax: {jax.__version__}", *(f"{name}: {value}" for name, value in versions.items()))
    print(f"{'case':<16}{'what':<11}{'peer':<36}{'ours ms':>9}{'peer ms':>9}{'ratio':>8}")
    rows: list[Row] = []
    for study in arguments.study:
        rows += run(study, dtype, device, arguments.runs)
        write_json(arguments.json, versions | {"rows": rows})


if __name__ == "__main__":
    main()
