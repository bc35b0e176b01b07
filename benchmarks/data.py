"""Images per second of the input pipeline beside a PyTorch `DataLoader`, by source and workers.

    python -m benchmarks.data [--json FILE] [--images PATH] [--side 256]

Both sides read the same images, cut them to squares, mirror half of them and stack uint8 batches.
The peer reads the folder, with torchvision's transforms written on Pillow; ours read the folder, a
zip of it and the ArrayRecord shards that `avq prepare` makes of it. Without --images, 2,000 JPEGs
are cut from the embedded photographs. Rows are measured in turns; a rate is the median of three,
each of an epoch from its fourth batch on.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from avq.data.dataset import Readable
from avq.data.images import random_square
from avq.data.pipeline import prefetch, train_batches
from avq.data.prepare import prepare
from avq.data.sources import EncodedImages, Photographs, open_source

BATCH, SETTLING, ROUNDS = 32, 3, 3
WORKERS = (0, 1, 2, 4)


class ImageFolder(torch.utils.data.Dataset):
    """The peer's own way: open a file, make it RGB, transform it. The transforms are those of
    torchvision (Resize, CenterCrop, RandomHorizontalFlip, PILToTensor), which on Pillow images are
    these calls.
    """

    def __init__(self, root: Path, side: int) -> None:
        self.files = sorted(path for path in root.rglob("*") if path.is_file())
        self.side = side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        size = (self.side, self.side)
        if image.size != size:
            image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.as_tensor(np.array(image, copy=True)).permute(2, 0, 1)


def rate(batches: Iterator[Any], count: int) -> float:
    """Images per second of the batches behind the first few, which were made ahead."""
    for _ in range(SETTLING):
        next(batches)
    began = time.perf_counter()
    for _ in range(count - SETTLING):
        next(batches)
    return (count - SETTLING) * BATCH / (time.perf_counter() - began)


def ours(source: EncodedImages, side: int, workers: int) -> float:
    data = SimpleNamespace(image_size=side, batch_size=BATCH, min_crop=1.0, flip=True)
    stream = prefetch(train_batches(Readable(source), data, seed=0), 0, workers)
    try:
        return rate(stream, len(source) // BATCH)
    finally:
        stream.close()  # type: ignore[attr-defined]


def peer(folder: ImageFolder, workers: int) -> float:
    loader = torch.utils.data.DataLoader(
        folder, BATCH, shuffle=True, num_workers=workers, drop_last=True
    )
    return rate(iter(loader), len(folder) // BATCH)


def photograph_squares(folder: Path, side: int, n: int = 2000) -> None:
    """JPEG files of random squares of the embedded photographs."""
    photographs, rng = Photographs("train", side), np.random.default_rng(0)
    for i in range(n):
        square = random_square(photographs[i % len(photographs)], side, rng)
        Image.fromarray(square).save(folder / f"{i:05d}.jpg", quality=90)


def unpack(path: Path, folder: Path) -> None:
    """The readable images of a source, their bytes as they are."""
    source = open_source(str(path))
    for i in range(len(source)):
        (folder / f"{i:06d}{Path(source.name(i)).suffix}").write_bytes(source.read(i))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=Path, help="images to take instead of photographs")
    parser.add_argument("--side", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "folder")
        folder.mkdir()
        if arguments.images:
            unpack(arguments.images, folder)
        else:
            photograph_squares(folder, arguments.side)
        with zipfile.ZipFile(Path(scratch, "images.zip"), "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)
        shards = Path(scratch, "shards")
        prepare(str(folder), shards, size=arguments.side, workers=os.cpu_count() or 1)
        sources = {
            "folder": open_source(str(folder)),
            "zip": open_source(str(Path(scratch, "images.zip"))),
            "array_record": open_source(str(shards)),
        }
        rows = measure(sources, ImageFolder(folder, arguments.side), arguments.side)
    if arguments.json:
        versions = {
            "torch": torch.__version__,
            "cores": os.cpu_count(),
        }
        arguments.json.write_text(json.dumps(versions | {"rows": rows}, indent=2) + "\n")


def measure(
    sources: dict[str, EncodedImages], folder: ImageFolder, side: int
) -> list[dict[str, Any]]:
    rows = []
    print(f"{'source':<14}{'workers':>8}{'ours img/s':>12}{'peer img/s':>12}{'ratio':>8}")
    for workers in WORKERS:
        rates: dict[str, list[float]] = {name: [] for name in ("peer", *sources)}
        for _ in range(ROUNDS):
            rates["peer"].append(peer(folder, workers))
            for name, source in sources.items():
                rates[name].append(ours(source, side, workers))
        beside = statistics.median(rates.pop("peer"))
        for name, measured in rates.items():
            mine = statistics.median(measured)
            rows.append(
                {
                    "source": name,
                    "workers": workers,
                    "images_per_s": mine,
                    "peer_images_per_s": beside,
                    "ratio": mine / beside,
                }
            )
            print(f"{name:<14}{workers:>8}{mine:>12.0f}{beside:>12.0f}{mine / beside:>8.2f}")
    return rows


if __name__ == "__main__":
    main()
