"""Start-up and memory of the input pipeline over a folder of 100,000 images.

    python -m benchmarks.many_images [--json FILE] [--images 100000]

The folder is generated: 200 different JPEGs of 89x109 pixels under many names. Each row runs in a
process of its own and then reads that many images, in batches of 32, as training does.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from avq.data.dataset import open_dataset
from avq.data.pipeline import prefetch, train_batches

BATCH, DIFFERENT = 32, 200
SHARES = (0.01, 0.1, 0.5, 1.0)


def generate(folder: Path, images: int) -> None:
    """Files in folders of a thousand; hard links, since only their number matters here."""
    rng = np.random.default_rng(0)
    for i in range(images):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if i < DIFFERENT:
            coarse = Image.fromarray(rng.integers(0, 256, (12, 10, 3)).astype(np.uint8))
            coarse.resize((89, 109), Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            path.hardlink_to(folder / "000" / f"{i % DIFFERENT:06d}.jpg")


def measure(folder: str, images: int) -> dict[str, float]:
    data = SimpleNamespace(
        path=folder, image_size=64, batch_size=BATCH, split=0.8, split_seed=1967,
        max_rejected=0.01, min_crop=1.0, flip=True,
    )  # fmt: skip
    began = time.perf_counter()
    train = open_dataset(data).train
    opened = time.perf_counter()
    stream = prefetch(train_batches(train, data, seed=0), 0)
    next(stream)
    first = time.perf_counter()
    for _ in range(images // BATCH - 1):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    return {
        "images_read": images,
        "open_s": opened - began,
        "first_batch_s": first - opened,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--row", nargs=2, metavar=("FOLDER", "IMAGES"), help="in this process")
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(arguments.row[0], int(arguments.row[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments.images)
        for share in SHARES:
            row = ["--row", folder, str(int(share * arguments.images))]
            command = [sys.executable, "-m", "benchmarks.many_images", *row]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print("  ".join(f"{name} {value:.1f}" for name, value in rows[-1].items()), flush=True)
    if arguments.json:
        result = {"images": arguments.images, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
