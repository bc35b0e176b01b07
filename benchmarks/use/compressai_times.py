"""Times of CompressAI's learned codecs for `benchmarks.codecs`."""

import time
from statistics import median

import numpy as np
import torch
from compressai.zoo import bmshj2018_factorized, cheng2020_anchor
from jaxtyping import UInt8

from avq.workers import usable_cores
from benchmarks._common import Row

CODECS = {"bmshj2018-factorized": bmshj2018_factorized, "cheng2020-anchor": cheng2020_anchor}
STRIDE = 64  # pixels, which both sides of an image have to be a multiple of


def time_rows(image: UInt8[np.ndarray, "_h _w 3"], runs: int) -> list[Row]:
    """Milliseconds of each codec, of its smallest size and with random weights, from an image in
    memory to bytes and back.

    Args:
        image: cut to multiples of `STRIDE`.
        runs: timed calls.
    """
    torch.manual_seed(0)
    torch.set_num_threads(usable_cores())
    height, width = (side // STRIDE * STRIDE for side in image.shape[:2])
    pixels = torch.tensor(image[None, :height, :width]).permute(0, 3, 1, 2).float() / 255
    rows = []
    for name, make in CODECS.items():
        codec = make(quality=1, pretrained=False).eval()
        codec.update()
        times: list[tuple[float, float]] = []
        with torch.inference_mode():
            for _ in range(runs + 1):  # the first to warm up
                began = time.perf_counter()
                file = codec.compress(pixels)
                encoded = time.perf_counter()
                codec.decompress(file["strings"], file["shape"])
                times.append((encoded - began, time.perf_counter() - encoded))
        encode_ms, decode_ms = (1e3 * median(each) for each in zip(*times[1:], strict=True))
        rows.append({"codec": name, "encode_ms": encode_ms, "decode_ms": decode_ms})
    return rows
