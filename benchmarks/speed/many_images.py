"""Input pipeline over a folder of 100,000 images: time to start, and memory.

    python -m benchmarks.many_images [--json FILE] [--images 100000]

The folder is generated: 200 different JPEGs of 89x109 pixels under many names. Each row is of a
process of its own, which opens the folder and reads images in batches of 32, as training does.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from avq.data.dataset import open_dataset
from avq.data.pipeline import prefetch, train_batches
from avq.data.settings import Data
from benchmarks._common import Row, child_result, make_parser, write_json

BATCH, DIFFERENT = 32, 200
SHARES = (0.01, 0.1, 0.5, 1.0)


def generate(folder: Path, images: int) -> None:
    """Writes images into folders of a thousand; hard links, since only their number matters."""
    rng = np.random.default_rng(0)
    for i in range(images):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if i < DIFFERENT:
            coarse = Image.fromarray(rng.integers(0, 256, (12, 10, 3)).astype(np.uint8))
            coarse.resize((89, 109), Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            path.hardlink_to(folder / "000" / f"{i % DIFFERENT:06d}.jpg")


def measure(folder: str, images: int) -> Row:
    """Seconds to open a folder and to the first batch; peak of memory after `images` images."""
    data = Data(path=folder, image_size=64, batch_size=BATCH, min_crop=1.0, flip=True)
    began = time.perf_counter()
    train = open_dataset(data).train
    opened = time.perf_counter()
    stream = prefetch(train_batches(train, data, seed=0), 0)
    next(stream)
    first = time.perf_counter()
    for _ in range(images // BATCH - 1):
        next(stream)
    stream.close()
    return {
        "images_read": images,
        "open_s": opened - began,
        "first_batch_s": first - opened,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    if arguments.case:
        folder, images = arguments.case
        print(json.dumps(measure(folder, int(images))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments.images)
        for share in SHARES:
            rows.append(child_result("--case", folder, str(int(share * arguments.images))))
            print("  ".join(f"{name} {value:.1f}" for name, value in rows[-1].items()), flush=True)
    write_json(arguments.json, {"images": arguments.images, "rows": rows})


if __name__ == "__main__":
    main()
