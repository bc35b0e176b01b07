"""Our speed beside what one would use instead, on this machine, in one run.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.peers --json FILE [--study NAME ...] [--dtype DTYPE]

The PyTorch twin carries our parameters and has to give our outputs before it is timed. All calls
are made in one process, with the memory setting of `avq.cpu`, from which the peers gain as well. A
ratio is ours over the peer's: under 1, we are faster. On a GPU, convolutions and products are in
bfloat16 on both sides, by autocast on the peer's.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch
import vector_quantize_pytorch

from avq import config as configs
from avq import cpu, parallel
from avq.bench import device_in_words
from avq.models.quantizer import Quantizer
from avq.models.vqvae import VQVAE
from avq.train.system import System, build, make_step
from benchmarks import twin
from benchmarks.inputs import random_images
from benchmarks.plain import plain_formulation
from benchmarks.studies import medians_in_turns

VARIANCE = 0.31  # of pixels; any value costs the same
# By dtype: the share of codes, and the distance of pixels in [-1, 1], that rounding may cause.
TOLERANCES = {"float32": (0.01, 1e-3), "bfloat16": (0.03, 0.1)}
STUDIES = ("tiny", "width64", "attention", "quantiser", "vqmodel")
TINY = ["--config=configs/ah_vqvae.py:tiny"]
WIDTH_64 = [
    *TINY,
    "--config.model.base_filters=(64,64,64)",
    "--config.model.aren_filters=64",
    "--config.model.decoder_filters=(64,64,64,64)",
    "--config.model.latent_dim=64",
    "--config.model.encoder_blocks=2",
    "--config.model.attention_dim=64",
    "--config.model.stride_at=last",
    "--config.discriminator.filters=(64,64,64,32,32,1)",
    "--config.discriminator.strides=(2,2,2,1,1,1)",
    "--config.data.batch_size=16",
]

Call = Callable[[], Any]
Row = dict[str, Any]


def compare(case: str, what: str, ours: Call, peers: dict[str, Call]) -> list[Row]:
    """Times all in turns; a row for each peer."""
    medians = medians_in_turns({"ours": ours, **peers}, rounds=3, runs=5)
    rows = [
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


class Ours:
    """Our system of a config, with calls to time on a batch of random pixels."""

    def __init__(self, config: Any, images: np.ndarray) -> None:
        self.system: System = build(config)
        mesh = parallel.make_mesh(1)
        self.state = self.system.init(0, images.shape[1])
        self.batch = parallel.place(images, mesh)
        self._step = parallel.compile_step(make_step(self.system, config, VARIANCE), mesh)
        self.train(), self.train()  # fills the codebook, as in a run that is under way
        self.variables = jax.tree.map(jnp.copy, self.state.vqvae.variables())
        self.opponent = jax.tree.map(jnp.copy, self.state.discriminator.variables())
        model = self.system.vqvae
        compiled = partial(jax.jit, compiler_options=cpu.compiler_options("inference"))
        encode = compiled(lambda v, x: model.apply(v, x, method=VQVAE.encode))
        decode = compiled(lambda v, c: model.apply(v, c, method=VQVAE.decode))
        pixels = jnp.asarray(images, jnp.float32) / 127.5 - 1
        self.codes = encode(self.variables, pixels)
        self.encode = lambda: encode(self.variables, pixels)
        self.decode = lambda: decode(self.variables, self.codes)
        self.decode()  # traced here, as all else is: the plain formulation ends with this call

    def train(self) -> Any:
        self.state, metrics = self._step(self.state, self.batch)
        return metrics


def autocast(config: Any, device: str) -> Callable[[], torch.autocast]:
    """Makes the context in which a peer computes as ours does by `model.dtype`."""
    half = config.model.dtype == "bfloat16"
    return partial(torch.autocast, device, torch.bfloat16, enabled=half)


class Twin:
    """The PyTorch twin with our parameters, and the same calls."""

    def __init__(self, config: Any, ours: Ours, images: np.ndarray, device: str) -> None:
        place = {"device": device, "memory_format": torch.channels_last}
        self.vqvae = twin.VQVAE(config.model).to(**place)
        self.discriminator = twin.Discriminator(config.discriminator).to(**place)
        twin.load(self.vqvae, ours.variables)
        twin.load(self.discriminator, ours.opponent)
        pixels = torch.tensor(images).permute(0, 3, 1, 2).to(device)
        self.pixels = pixels.float() / 127.5 - 1
        self.codes = torch.tensor(np.asarray(ours.codes[0])).long().to(device)
        self.autocast = autocast(config, device)
        self.trainer = twin.Trainer(config, self.vqvae, self.discriminator, self.autocast)

    def compiled(self) -> "Twin":
        self.vqvae.forward = torch.compile(self.vqvae.forward)
        self.vqvae.encode = torch.compile(self.vqvae.encode)
        self.vqvae.decode = torch.compile(self.vqvae.decode)
        self.discriminator.forward = torch.compile(self.discriminator.forward)
        return self

    def train(self) -> float:
        self.vqvae.train(), self.discriminator.train()
        return self.trainer.step(self.pixels, VARIANCE).item()

    @torch.inference_mode()
    def encode(self) -> list[np.ndarray]:
        self.vqvae.eval()
        with self.autocast():
            return [codes.cpu().numpy() for codes in self.vqvae.encode(self.pixels)]

    @torch.inference_mode()
    def decode(self) -> np.ndarray:
        self.vqvae.eval()
        with self.autocast():
            return self.vqvae.decode(self.codes).permute(0, 2, 3, 1).cpu().numpy()


def require_equal(ours: Ours, peer: Twin) -> None:
    """Refuses to time a twin that is not one.

    Raises:
        ValueError: when more codes, or any pixel, differ than rounding explains.
    """
    most, furthest = TOLERANCES[ours.system.vqvae.dtype]
    for mine, theirs in zip(ours.encode(), peer.encode(), strict=True):
        if (differing := np.mean(np.asarray(mine) != theirs)) > most:
            raise ValueError(f"{differing:.1%} of the twin's codes differ")
    distance = np.abs(np.asarray(ours.decode()) - peer.decode()).max()
    if distance > furthest:
        raise ValueError(f"the twin's images differ by up to {distance}")


def systems(case: str, settings: list[str], device: str) -> list[Row]:
    """Training, encoding and decoding beside the twin, and beside our own plain formulation."""
    config = configs.load(settings)
    images = random_images(config)
    ours = Ours(config, images)
    with plain_formulation():
        plain = Ours(config, images)
    eager = Twin(config, ours, images, device)
    require_equal(ours, eager)
    compiled = Twin(config, ours, images, device).compiled()
    rows = []
    for what in ("train", "encode", "decode"):
        peers = {
            "PyTorch twin, eager": getattr(eager, what),
            "PyTorch twin, torch.compile": getattr(compiled, what),
            "ours, plain formulation": getattr(plain, what),
        }
        rows += compare(case, what, getattr(ours, what), peers)
    return rows


def attention(case: str, settings: list[str]) -> list[Row]:
    """What attention adds to a training step: AH over H."""
    config = configs.load(settings)
    images = random_images(config)
    ours = Ours(config, images)
    without = configs.load([*settings, "--config.model.attention_norm=off"])
    peer = Ours(without, images)
    return compare(case, "train", ours.train, {"ours without attention (H)": peer.train})


def quantiser(device: str) -> list[Row]:
    """Forward pass and moving-average update of one codebook, 16,384 tokens of 256 channels."""
    k, d, shape = 1024, 256, (16, 32, 32)
    z = np.random.default_rng(0).normal(size=(*shape, d)).astype(np.float32)
    module = Quantizer(k, d)
    state = module.init(jax.random.key(0), jnp.asarray(z), train=False)

    @partial(jax.jit, compiler_options=cpu.compiler_options())
    def ours(variables: Any, x: Any, key: Any) -> Any:
        mutable, rngs = ["codebook"], {"codebook": key}
        found, state = module.apply(variables, x, True, mutable=mutable, rngs=rngs)
        _, state = module.apply(state, found.statistics, mutable=mutable, method="learn")
        return found.vectors, state

    peer = vector_quantize_pytorch.VectorQuantize(
        dim=d, codebook_size=k, decay=0.99, commitment_weight=0.25, threshold_ema_dead_code=0.03
    ).to(device)
    tokens = torch.tensor(z).reshape(shape[0], -1, d).to(device)
    x, key = jnp.asarray(z), jax.random.key(0)
    _, filled = ours(state, x, key)

    @torch.no_grad()
    def theirs() -> float:
        return peer(tokens)[2].sum().item()

    calls = {"vector-quantize-pytorch": theirs}
    return compare("K 1024, D 256", "quantiser", lambda: ours(filled, x, key), calls)


def vqmodel(settings: list[str], device: str) -> list[Row]:
    """diffusers' VQModel with our grid of codes and about our width, reconstruction loss alone."""
    config = configs.load([*settings, "--config.loss.adversarial_weight=1e-9"])
    images = random_images(config)
    ours = Ours(config, images)
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
    pixels = (torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1).to(device)
    precision = autocast(config, device)

    def train() -> float:
        peer.train()
        with precision():
            out = peer(pixels)
            loss = (out.sample - pixels).abs().mean() + out.commit_loss.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def encode() -> int:
        peer.eval()
        with precision():
            return int(peer.quantize(peer.encode(pixels).latents)[2][2].sum())

    with torch.inference_mode():
        latents = peer.encode(pixels).latents

    @torch.inference_mode()
    def decode() -> float:
        peer.eval()
        with precision():
            return peer.decode(latents).sample.sum().item()

    calls = {"train": train, "encode": encode, "decode": decode}
    rows = []
    for what, call in calls.items():
        rows += compare("width 64", what, getattr(ours, what), {"diffusers VQModel": call})
    return rows


def run(study: str, dtype: str, device: str) -> list[Row]:
    """Rows of one of STUDIES."""
    tiny, width_64 = ([*case, f"--config.model.dtype={dtype}"] for case in (TINY, WIDTH_64))
    match study:
        case "tiny":
            return systems("ah_vqvae:tiny", tiny, device)
        case "width64":
            return systems("width 64", width_64, device)
        case "attention":
            return attention("ah_vqvae:tiny", tiny) + attention("width 64", width_64)
        case "quantiser":
            return quantiser(device)
        case _:
            return vqmodel(width_64, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--dtype", choices=TOLERANCES, help="as in configs; bfloat16 on a GPU")
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=list(STUDIES))
    arguments = parser.parse_args()
    cpu.keep_memory()
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    dtype = arguments.dtype or ("float32" if device == "cpu" else "bfloat16")
    versions = {
        "device": device_in_words(parallel.make_mesh(1)),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "dtype": dtype,
    }
    print(" ".join(f"{name}: {value}" for name, value in versions.items()))
    print(f"{'case':<16}{'what':<11}{'peer':<36}{'ours ms':>9}{'peer ms':>9}{'ratio':>8}")
    rows: list[Row] = []
    for study in arguments.study:
        rows += run(study, dtype, device)
        if arguments.json:
            arguments.json.write_text(json.dumps({**versions, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
