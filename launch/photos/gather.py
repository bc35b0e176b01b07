"""Gathers the free photographs of photographs.csv, and cuts them into squares to train on.

python launch/photos/gather.py data/photos

Needs a Debian system with apt and dpkg; nothing is installed, and root is not needed. Writes
`train/` and `test/` with the squares, `whole/` with the held-out photographs at up to 1,024 pixels,
and `LICENSES.md`.
"""

import csv
import hashlib
import importlib.resources
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

RELEASE = "trixie"  # of Debian, whichever the machine runs
LIST = Path(__file__).with_name("photographs.csv")
SIDES = (2048, 1024)  # longer side of a photograph that squares of training are cut from, pixels
SQUARE = 384  # three times what the model sees, for random crops of data.min_crop=0.334
TEST_SQUARES, SMALLEST = 16, 128  # of a held-out photograph, at random places and sizes
ABOUT = """# Photographs of the model `photos`

The model's weights are under the licence of avq, Apache-2.0. They were trained, or evaluated, on
these photographs, and hold none of them. Nothing was learned from those under share-alike licences
(CC-BY-SA), which are held out.
`samples.png` shows held-out ones in the public domain or under CC0.

| photograph | package | by | licence | used for |
| --- | --- | --- | --- | --- |
"""


def unpacked(packages: Sequence[str], folder: Path) -> None:
    """Downloads Debian packages by an apt of its own; unpacks each into a folder of its name."""
    described = _printed("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(SITE)")
    mirror = next(line.split()[-1] for line in described.splitlines() if line[:11] == "Debian main")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text(f"deb [signed-by={keys}] {mirror} {RELEASE} main\n")
    for place in ("lists/partial", "cache/archives/partial"):
        (folder / place).mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
    }
    apt = [
        "apt-get",
        "-qq",
        *(word for pair in options.items() for word in ("-o", "=".join(map(str, pair)))),
    ]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *packages], check=True, cwd=folder)
    for package in packages:
        (file,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", file, folder / package], check=True)


def _printed(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def opened(row: dict[str, str], folder: Path) -> Image.Image:
    """The photograph of a row."""
    if row["package"] == "scikit-image":
        path = Path(str(importlib.resources.files("skimage"))) / row["file"]
    else:
        (path,) = (folder / row["package"]).rglob(row["file"])
    with Image.open(path) as image:
        return image.convert("RGB")


def shrunk(image: Image.Image, longer: int) -> Image.Image:
    """An image whose longer side is at most so many pixels."""
    share = min(1.0, longer / max(image.size))
    return image.resize([round(length * share) for length in image.size], Image.Resampling.LANCZOS)


def training_squares(image: Image.Image) -> Iterator[Image.Image]:
    """Squares side by side over the middle of an image, at both sizes."""
    for longer in sorted({min(side, max(image.size)) for side in SIDES}):
        small = shrunk(image, longer)
        side = min(SQUARE, *small.size)
        across, down = (length // side for length in small.size)
        left, top = (small.width - across * side) // 2, (small.height - down * side) // 2
        for x in range(left, left + across * side, side):
            for y in range(top, top + down * side, side):
                yield small.crop((x, y, x + side, y + side))


def test_squares(image: Image.Image, name: str) -> Iterator[Image.Image]:
    """Squares at random places, of random sizes: what training sees, without enlargement."""
    rng = random.Random(hashlib.sha256(name.encode()).digest())
    small = shrunk(image, SIDES[0])
    for _ in range(TEST_SQUARES):
        side = rng.randint(SMALLEST, min(SQUARE, *small.size))
        x, y = (rng.randint(0, length - side) for length in small.size)
        yield small.crop((x, y, x + side, y + side))


def main(out: Path) -> None:
    with LIST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("train", "test", "whole"):
        (out / name).mkdir(parents=True)
    table, squares, pixels = ABOUT, {"train": 0, "test": 0}, 0
    with tempfile.TemporaryDirectory() as temporary:
        packages = sorted({row["package"] for row in rows} - {"scikit-image"})
        unpacked(packages, Path(temporary))
        for row in rows:
            image = opened(row, Path(temporary))
            pixels += image.width * image.height
            split, name = row["split"], f"{row['package']}-{row['file']}".replace("/", "-")
            if split == "train":
                for i, square in enumerate(training_squares(image)):
                    square.save(out / split / f"{name}-{i}.jpg", quality=95, subsampling=0)
                    squares[split] += 1
            else:
                shrunk(image, SIDES[1]).save(out / "whole" / f"{name}.png")
                for i, square in enumerate(test_squares(image, name)):
                    square.save(out / split / f"{name}-{i}.png")
                    squares[split] += 1
            use = "training" if split == "train" else "evaluation"
            by = row["author"].replace("|", "")
            table += f"| {row['file']} | {row['package']} | {by} | {row['licence']} | {use} |\n"
    (out / "LICENSES.md").write_text(table, encoding="utf-8")
    print(f"{out}: {len(rows)} photographs, {pixels / 1e6:.0f} million pixels, {squares}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
