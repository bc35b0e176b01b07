"""Input pipeline beside a PyTorch `DataLoader`: images per second by source and workers.

    python -m benchmarks.data [--json FILE] [--images PATH] [--side 256] [--rounds 3]

Both sides read the same images, cut them to squares, mirror half of them and stack uint8 batches.
The peer reads the folder, with torchvision's transforms written on Pillow; ours reads the folder, a
zip of it and the ArrayRecord shards that `avq prepare` makes of it. Without --images, 2,000 JPEGs
are cut from the embedded photographs. Sources are measured in turns; a rate is the median over the
rounds, each of one epoch from its fourth batch on.
"""
# PyTorch may be absent where types are checked; then its classes are Any.
# mypy: allow-subclassing-any

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from avq.data.dataset import ImageSet
from avq.data.pipeline import prefetch, train_batches
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources import Source, open_source
from benchmarks._common import Row, make_parser, write_json
from benchmarks.speed.image_sources import pack, photograph_squares, unpack

BATCH, SETTLING = 32, 3
WORKERS = (0, 1, 2, 4)


class ImageFolder(torch.utils.data.Dataset):
    """Dataset of a PyTorch project: opens a file, converts it to RGB, transforms it.

    The transforms are those of torchvision (Resize, CenterCrop, RandomHorizontalFlip,
    PILToTensor), which on Pillow images are these calls.
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
    """Images per second after the first few batches, which were prefetched."""
    for _ in range(SETTLING):
        next(batches)
    began = time.perf_counter()
    for _ in range(count - SETTLING):
        next(batches)
    return (count - SETTLING) * BATCH / (time.perf_counter() - began)


def our_rate(source: Source, side: int, workers: int) -> float:
    """Images per second of avq's pipeline."""
    data = Data(image_size=side, batch_size=BATCH, min_crop=1.0, flip=True)
    stream = prefetch(train_batches(ImageSet(source), data, seed=0), 0, workers)
    try:
        return rate(stream, len(source) // BATCH)
    finally:
        stream.close()


def peer_rate(folder: ImageFolder, workers: int) -> float:
    """Images per second of a `DataLoader`."""
    loader = torch.utils.data.DataLoader(
        folder, BATCH, shuffle=True, num_workers=workers, drop_last=True
    )
    return rate(iter(loader), len(folder) // BATCH)


def measure(sources: dict[str, Source], folder: ImageFolder, side: int, rounds: int) -> list[Row]:
    """Median rates of every source, ours and the peer's, for each number of workers."""
    rows: list[Row] = []
    print(f"{'source':<14}{'workers':>8}{'ours img/s':>12}{'peer img/s':>12}{'ratio':>8}")
    for workers in WORKERS:
        rates: dict[str, list[float]] = {name: [] for name in ("peer", *sources)}
        for _ in range(rounds):
            rates["peer"].append(peer_rate(folder, workers))
            for name, source in sources.items():
                rates[name].append(our_rate(source, side, workers))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        for name in sources:
            row: Row = {
                "source": name,
                "workers": workers,
                "images_per_s": medians[name],
                "peer_images_per_s": medians["peer"],
                "ratio": medians[name] / medians["peer"],
            }
            rows.append(row)
            print(
                "{source:<14}{workers:>8}{images_per_s:>12.0f}{peer_images_per_s:>12.0f}"
                "{ratio:>8.2f}".format(**row)
            )
    return rows


def open_sources(scratch: Path, side: int) -> dict[str, Source]:
    """The images of `scratch/folder` as that folder, as a zip, and as shards."""
    folder, archive, shards = (scratch / name for name in ("folder", "images.zip", "shards"))
    pack(folder, archive)
    prepare(str(folder), shards, size=side, workers=os.cpu_count() or 1)
    paths = {"folder": folder, "zip": archive, "array_record": shards}
    return {name: open_source(str(path)) for name, path in paths.items()}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=Path, help="images to take instead of photographs")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each row")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "folder")
        folder.mkdir()
        if arguments.images:
            unpack(arguments.images, folder)
        else:
            photograph_squares(folder, arguments.side, n=2000)
        sources = open_sources(Path(scratch), arguments.side)
        peer = ImageFolder(folder, arguments.side)
        rows = measure(sources, peer, arguments.side, arguments.rounds)
    versions = {"torch": torch.__version__, "cores": os.cpu_count()}
    write_json(arguments.json, versions | {"rows": rows})


if __name__ == "__main__":
    main()
