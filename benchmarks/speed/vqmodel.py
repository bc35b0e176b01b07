"""Quality by time beside diffusers' VQModel at equal bits.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.vqmodel --minutes N [--data PATH] [--learning-rate RATE] [--json FILE]

Trains VQModel for the minutes in PyTorch, eager and channels last, then `ah_vqvae_plus:tiny` as
`benchmarks.quality` does, and says when each first had the PSNR that VQModel ends with. Both have
0.625 bits a pixel, the same batches of the same training images, evaluations of the same test
images, and learning rates that rise over 50 steps and fall to 0 by a cosine. Seconds are those of
the steps. The ratio is plus's over VQModel's: under 1, plus is faster.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diffusers
import jax
import numpy as np
import torch

from avq import cpu, tasks
from avq.data.dataset import open_dataset
from avq.data.pipeline import prefetch, train_batches
from avq.data.settings import Data
from avq.settings import construct
from avq.workers import usable_cores
from benchmarks._common import Row, child_result, make_parser, write_json
from benchmarks.speed.quality import (
    EVALUATIONS,
    mean_psnr,
    print_rows,
    quality_row,
    quality_rows,
    train,
)

PLUS, PEER = "ah_vqvae_plus:tiny", "diffusers VQModel"
CODES, STRIDE = 1024, 4  # 10 bits for 4x4 pixels
WARMUP = 50  # steps, as in the config of plus


class Training:
    """Training of VQModel by Adam on the squared error, which PSNR is made of, and its own loss of
    the codebook.

    Args:
        learning_rate: at its highest.
        device: where it runs.
    """

    def __init__(self, learning_rate: float, device: str) -> None:
        torch.manual_seed(0)
        self.learning_rate, self.device, self.steps = learning_rate, device, 0
        model: Any = diffusers.VQModel(
            block_out_channels=(64, 64, 64),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=8,
            num_vq_embeddings=CODES,
        )
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=learning_rate, fused=True)

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        return torch.tensor(images).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1

    def step(self, images: np.ndarray, share: float) -> None:
        """Trains one step.

        Args:
            images: uint8 [b, h, w, 3].
            share: of the training that is done, 0 to 1.
        """
        self.model.train()
        self.steps += 1
        rate = self.learning_rate * (1 + math.cos(math.pi * share)) / 2
        self.optimizer.param_groups[0]["lr"] = rate * min(1.0, self.steps / WARMUP)
        pixels = self._pixels(images)
        out = self.model(pixels)
        loss = torch.nn.functional.mse_loss(out.sample, pixels) + out.commit_loss.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if not math.isfinite(loss.item()):  # waits for the step
            raise ValueError(f"step {self.steps} is not finite. Lower --learning-rate.")

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Reconstructions in about [-1, 1] of uint8 images [b, h, w, 3]."""
        self.model.eval()
        with torch.inference_mode():
            return np.asarray(self.model(self._pixels(images)).sample.permute(0, 2, 3, 1).cpu())


def train_vqmodel(path: str, minutes: float, learning_rate: float) -> list[Row]:
    """Trains VQModel on the data of plus; returns its evaluations, evenly spaced in time."""
    config = tasks.load(["--config=configs/ah_vqvae_plus.py:tiny", f"--config.data.path={path}"])
    data = construct(Data, config.data.to_dict())
    dataset = open_dataset(data)
    on_gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    training = Training(learning_rate, "cuda" if on_gpu else "cpu")
    stream = prefetch(train_batches(dataset.train, data, seed=config.seed), 0)
    rows: list[Row] = []
    seconds, total = 0.0, 60 * minutes
    while seconds < total:
        began = time.perf_counter()
        training.step(next(stream)["image"], seconds / total)
        before, seconds = seconds, seconds + time.perf_counter() - began
        if int(EVALUATIONS * seconds / total) > int(EVALUATIONS * before / total):
            measured = mean_psnr(
                training.reconstruct, dataset.test, data.image_size, data.batch_size
            )
            rows.append(
                {
                    "system": PEER,
                    "seed": 0,
                    "step": training.steps,
                    "seconds": round(seconds, 1),
                    "psnr": measured,
                    "bits_per_pixel": math.log2(CODES) / STRIDE**2,
                }
            )
            print(rows[-1], file=sys.stderr)  # standard output is for the caller
    stream.close()
    return rows


def main() -> None:
    """Trains both and prints a row for each, and the ratio of their seconds."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="of training each")
    parser.add_argument("--data", default="photographs", metavar="PATH")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="RATE")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    if arguments.peer:
        cpu.keep_memory()
        torch.set_num_threads(usable_cores())
        rate = arguments.learning_rate
        print(json.dumps(train_vqmodel(arguments.data, arguments.minutes, rate)))
        return
    # In a process of its own, which gives its memory back, an accelerator's too.
    evaluations = child_result("--peer")
    target = evaluations[-1]["psnr"]
    with tempfile.TemporaryDirectory() as folder:
        code = train(Path(folder), [PLUS], arguments.data, arguments.minutes)
        rows = [quality_row(evaluations, target), *quality_rows(Path(folder), target)]
    print_rows(rows)
    seconds = {row["system"]: row["seconds_to_target"] for row in rows}
    ratio = seconds[PLUS] / seconds[PEER] if seconds.get(PLUS) else None
    print(f"target {target:.2f} dB  ratio {ratio}")
    write_json(arguments.json, {"target": target, "ratio": ratio, "rows": rows})
    raise SystemExit(code)


if __name__ == "__main__":
    main()
