"""What computing in bfloat16 changes of a trained model: its codes, its images and its speed.

    python -m benchmarks.dtypes --model RUN --data PATH [--runs N] [--json FILE]

Images are encoded and decoded by one model in float32 and in bfloat16. Milliseconds are medians of
`--runs` calls on the first image, in turns.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from avq import cpu
from avq.apply.pictures import Pictures
from avq.apply.tokenizer import Tokenizer, load
from avq.evaluate.metrics.psnr import psnr
from avq.pixels import to_float
from benchmarks._common import Row, make_parser, medians_in_turns, write_json

DTYPES = ("float32", "bfloat16")
MEASURED = ("encode", "decode")


def compare(models: dict[str, Tokenizer], images: list[Any]) -> Row:
    """Mean PSNR of each model, and the share of codes by level, finest first, that differ."""
    codes = {dtype: list(model.encode_each(images)) for dtype, model in models.items()}
    sizes = [image.shape[:2] for image in images]
    row: Row = {"images": len(images)}
    for dtype, model in models.items():
        made = model.decode_each(codes[dtype], sizes)
        values = [
            psnr(jnp.asarray(to_float(ours[None])), jnp.asarray(to_float(image[None])))
            for ours, image in zip(made, images, strict=True)
        ]
        row[f"psnr_{dtype}"] = float(np.mean(values))
    first, second = (
        [np.concatenate([grid.ravel() for grid in level]) for level in zip(*codes[d], strict=True)]
        for d in DTYPES
    )
    row["differing_codes"] = [float(np.mean(a != b)) for a, b in zip(first, second, strict=True)]
    return row


def speed(models: dict[str, Tokenizer], image: Any, runs: int) -> Row:
    """Milliseconds to encode and to decode an image in each dtype."""
    codes = {dtype: model.encode(image) for dtype, model in models.items()}
    encode = {d: lambda model=m: model.encode(image) for d, m in models.items()}
    decode = {d: lambda model=m, grids=codes[d]: model.decode(grids) for d, m in models.items()}
    return {
        f"{name}_ms": medians_in_turns(calls, rounds=3, runs=runs)
        for name, calls in (("encode", encode), ("decode", decode))
    }


def main() -> None:
    """Prints the share of codes that differ, and quality and times in each dtype."""
    parser = make_parser(__doc__, runs=5)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    cpu.keep_memory()
    models = {dtype: load(arguments.model, dtype=dtype) for dtype in DTYPES}
    images = list(Pictures([arguments.data]))
    row = compare(models, images) | speed(models, images[0], arguments.runs)
    shares = ", ".join(f"{share:.1%}" for share in row["differing_codes"])
    print(f"codes that differ, finest level first: {shares}")
    for dtype in DTYPES:
        times = ", ".join(f"{name} {row[f'{name}_ms'][dtype]:,.0f} ms" for name in MEASURED)
        print(f"{dtype:<10}{row[f'psnr_{dtype}']:.3f} dB, {times}")
    write_json(arguments.json, row)


if __name__ == "__main__":
    main()
