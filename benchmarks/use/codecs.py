"""Files of avq beside those of other codecs: bytes, quality and milliseconds of every image.

    python -m benchmarks.codecs --model RUN ... --data PATH [--rates BITS ...] [--runs N]
        [--json FILE] [--curves FILE.png] [--pictures FILE.png] [--compressai]

A model is a run with a codec, which `avq compress` gives it. JPEG, WebP, JPEG 2000 and AVIF are
Pillow's, each at the size of each model's file and at `--rates`, bits a pixel; where a codec has no
file as small, its smallest counts, and the row says `above`. An encode or decode is the median of
`--runs` calls after one to warm up, from pixels to bytes and back. A model's rows split it:
`entropy_encode_ms` is the part of `encode_ms` that entropy coding takes.

`--compressai` (pip install compressai, which asks for an old numpy and runs with a new one) times
two learned codecs as well, on the first image.
Their weights are random, since those that are published have to be fetched from their authors'
server; so those rows have no quality, and bytes that mean nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import UInt8
from tqdm import tqdm

from avq import cpu
from avq.apply.codec.coder import Coder
from avq.apply.codec.image_file import pack, unpack
from avq.apply.codec.stored import read_codec
from avq.apply.pictures import Pictures
from avq.apply.tokenizer import Codes, Tokenizer, load
from avq.bench import time_calls
from avq.errors import InputError
from avq.evaluate.baselines.codecs import CODECS, Codec, nearest_file
from avq.evaluate.metrics.psnr import psnr
from avq.evaluate.metrics.ssim import ms_ssim
from avq.pixels import to_float
from avq.shipped import located
from benchmarks._common import Row, make_parser, write_json
from benchmarks.use.codec_figures import draw_curves, draw_pictures

RATES = (0.06, 0.12, 0.25, 0.5, 1.0)  # of Pillow's codecs in the curves, bits a pixel
MEANS = ("bytes", "bits_per_pixel", "psnr", "ms_ssim", "encode_ms", "decode_ms")
Picture = UInt8[np.ndarray, "_h _w 3"]


@jax.jit
def quality(made: Any, image: Any) -> tuple[Any, Any]:
    """PSNR in dB and MS-SSIM of a batch of pictures in [-1, 1]."""
    return psnr(made, image), ms_ssim(made, image)


@dataclass(frozen=True)
class Model:
    """A model and its codec.

    Attributes:
        name: of its run.
        tokenizer: the model.
        codec: of the model.
    """

    name: str
    tokenizer: Tokenizer
    codec: Any

    @classmethod
    def of(cls, run: Path) -> "Model":
        """The model of a run.

        Raises:
            InputError: for one without a codec.
        """
        tokenizer = load(run)
        if (codec := read_codec(located(run), tokenizer)) is None:
            raise InputError(f"{str(run)!r} has no codec yet. Let avq compress make one.")
        return cls(run.name, tokenizer, codec)

    def encode(self, image: Picture) -> bytes:
        """File of an image."""
        (codes,) = self.tokenizer.encode_each([image])
        return self._file(image, codes)

    def decode(self, file: bytes) -> Picture:
        """Image of a file."""
        codes, size = unpack(file, self.tokenizer, self.codec, "file")
        (image,) = self.tokenizer.decode_each([codes], [size])
        return image

    def row(self, image: Picture, codes: Codes, runs: int) -> Row:
        """What an image costs, and what becomes of it.

        Args:
            image: the image.
            codes: of it.
            runs: timed calls.
        """
        file, coder = self._file(image, codes), Coder(self.codec.networks)
        bits, shapes = sum(coder.bits(codes)), [grid.shape for grid in codes]
        entropy_coded = coder.encode(codes)
        return coded_row(f"avq {self.name}", image, file, self.encode, self.decode, runs) | {
            "codes": sum(grid.size for grid in codes),
            "cross_entropy_bytes": bits / 8,
            "entropy_encode_ms": milliseconds(partial(coder.encode, codes), runs),
            "entropy_decode_ms": milliseconds(partial(coder.decode, entropy_coded, shapes), runs),
        }

    def _file(self, image: Picture, codes: Codes) -> bytes:
        return pack(codes, image.shape[:2], self.codec)


def order_0_bits(codes: Sequence[Codes]) -> float:
    """Bits that codes of images take by tables of their own frequencies, one a level, which
    no file would have to hold.
    """
    levels = (
        np.concatenate([grid.reshape(-1) for grid in each]) for each in zip(*codes, strict=True)
    )
    return sum(
        len(level) * float(scipy.stats.entropy(np.bincount(level), base=2)) for level in levels
    )


def milliseconds(call: Callable[[], Any], runs: int) -> float:
    """Median of a call."""
    return time_calls(call, runs=runs, warm_up=1).median


def coded_row(
    name: str,
    image: Picture,
    file: bytes,
    encode: Callable[[Picture], bytes],
    decode: Callable[[bytes], Picture],
    runs: int,
) -> Row:
    """Row of a codec and an image."""
    made, wanted = (jnp.asarray(to_float(each))[None] for each in (decode(file), image))
    (decibels,), (similarity,) = quality(made, wanted)
    return {
        "codec": name,
        "bytes": len(file),
        "bits_per_pixel": 8 * len(file) / (image.shape[0] * image.shape[1]),
        "psnr": float(decibels),
        "ms_ssim": float(similarity),
        "encode_ms": milliseconds(lambda: encode(image), runs),
        "decode_ms": milliseconds(lambda: decode(file), runs),
    }


def pillow_row(name: str, codec: Codec, image: Picture, target: float, runs: int) -> Row:
    """Row of one of Pillow's codecs at about `target` bytes."""
    file = nearest_file(codec, image, target)
    encode = partial(codec.encode, options=file.options)
    return coded_row(name, image, file.content, encode, codec.decode, runs) | {"above": file.above}


def measure(
    models: Sequence[Model],
    codes: Sequence[Sequence[Codes]],
    images: Pictures,
    rates: Sequence[float],
    runs: int,
) -> Iterator[Row]:
    """A row for each codec, image and size; `beside` is the model whose file's size a codec was
    given, or the bits a pixel.

    Args:
        models: the models.
        codes: by model, of all images.
        images: to compress.
        rates: of Pillow's codecs, bits a pixel.
        runs: timed calls.
    """
    codecs = {name: codec for name, codec in CODECS.items() if codec.is_available()}
    each_codes = zip(*codes, strict=True)
    for name, image, own in zip(images.names, images, each_codes, strict=True):
        targets: dict[str, float] = {
            f"{rate:g} bits a pixel": rate * image.shape[0] * image.shape[1] / 8 for rate in rates
        }
        for model, grids in zip(models, own, strict=True):
            row = model.row(image, grids, runs)
            targets[row["codec"]] = float(row["bytes"])
            yield {"image": name, "beside": row["codec"], **row}
        for beside, target in targets.items():
            for each, codec in codecs.items():
                row = pillow_row(each, codec, image, target, runs)
                yield {"image": name, "beside": beside, **row}


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means over images of each codec and `beside`."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["beside"], row["codec"]), []).append(row)
    return [
        {"beside": beside, "codec": codec, "images": len(group)}
        | {key: float(np.mean([row[key] for row in group])) for key in MEANS}
        | {"above": sum(row.get("above", False) for row in group)}
        for (beside, codec), group in groups.items()
    ]


def entropy_row(rows: Sequence[Row], codes: Sequence[Codes]) -> Row:
    """What a model's entropy coding saves and costs, over all images.

    Args:
        rows: of its files.
        codes: of the images.
    """
    summed = ("codes", "cross_entropy_bytes", *(key for key in rows[0] if key.endswith("_ms")))
    total = {key: sum(row[key] for row in rows) for key in summed}
    number, order_0 = total["codes"], order_0_bits(codes)
    entropy_ms = total["entropy_encode_ms"], total["entropy_decode_ms"]
    return {
        "codec": rows[0]["codec"],
        "order_0_bits_per_code": order_0 / number,
        "bits_per_code": 8 * total["cross_entropy_bytes"] / number,
        "saved": 1 - 8 * total["cross_entropy_bytes"] / order_0,
        "largest_overhead_bytes": max(row["bytes"] - row["cross_entropy_bytes"] for row in rows),
        "entropy_share_of_encode": entropy_ms[0] / (total["encode_ms"] - entropy_ms[0]),
        "entropy_share_of_decode": entropy_ms[1] / (total["decode_ms"] - entropy_ms[1]),
        "encoded_symbols_per_second": 1e3 * number / entropy_ms[0],
        "decoded_symbols_per_second": 1e3 * number / entropy_ms[1],
    }


def print_table(rows: Sequence[Row]) -> None:
    """Prints rows of the same keys as a table."""
    for cells in ([*rows[0]], *([*row.values()] for row in rows)):
        print(*(f"{_short(cell):>22}" for cell in cells), sep="", flush=True)


def _short(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def main() -> None:
    """Prints a table of all codecs, one of entropy coding, and ratios of time to CompressAI's."""
    parser = make_parser(__doc__, runs=3)
    parser.add_argument("--model", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH")
    parser.add_argument(
        "--rates", type=float, nargs="*", default=RATES, metavar="BITS", help="bits a pixel"
    )
    parser.add_argument(
        "--curves", type=Path, metavar="FILE", help="picture of rate and distortion"
    )
    parser.add_argument("--pictures", type=Path, metavar="FILE", help="images at equal bytes")
    parser.add_argument("--compressai", action="store_true", help="time CompressAI's codecs")
    arguments = parser.parse_args()
    cpu.keep_memory()
    models, images = [Model.of(run) for run in arguments.model], Pictures(arguments.data)
    codes = [list(model.tokenizer.encode_each(images)) for model in models]
    rows = list(tqdm(measure(models, codes, images, arguments.rates, arguments.runs), unit=" rows"))
    means = summary(rows)
    print_table(means)
    entropy = [
        entropy_row([row for row in rows if row["codec"] == f"avq {model.name}"], own)
        for model, own in zip(models, codes, strict=True)
    ]
    print_table(entropy)
    result = {"rows": rows, "means": means, "entropy": entropy}
    if arguments.compressai:
        from benchmarks.use.compressai_times import time_rows

        result["compressai"] = time_rows(next(iter(images)), arguments.runs)
        print_table(result["compressai"])
    if arguments.curves:
        is_kodak = len(images) == 24 and "kodak" in arguments.data[0]
        draw_curves(arguments.curves, means, is_kodak)
    if arguments.pictures:
        draw_pictures(arguments.pictures, models, images)
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
