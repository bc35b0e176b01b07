"""Rows of `python -m benchmarks.codecs`."""

import io

import numpy as np
import pytest
from PIL import Image

from avq.evaluate.baselines.codecs import CODECS
from benchmarks.use.codecs import entropy_row, pillow_row, summary


def test_row_of_a_codec_is_of_a_file_that_pillow_writes():
    ramp = np.linspace(0, 255, 32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)
    row = pillow_row("jpeg", CODECS["jpeg"], ramp, target=800.0, runs=2)
    sizes, ratios = [], []
    for quality in range(1, 96):
        file = io.BytesIO()
        Image.fromarray(ramp).save(file, "jpeg", quality=quality, optimize=True)
        error = np.asarray(Image.open(file)).astype(float) - ramp
        sizes.append(len(file.getvalue()))
        ratios.append(10 * np.log10(255**2 / np.mean(error**2)))
    nearest = np.argmin(np.abs(np.array(sizes) - 800))
    assert row["bytes"] == sizes[nearest]
    assert row["bits_per_pixel"] == pytest.approx(8 * sizes[nearest] / (32 * 48))
    assert row["psnr"] == pytest.approx(ratios[nearest], abs=1e-3)
    assert not row["above"]


def test_summary_is_the_mean_of_each_codec_and_rate():
    about = dict.fromkeys(("bits_per_pixel", "ms_ssim", "encode_ms", "decode_ms"), 0.0)
    rows = [
        about | {"beside": "x", "codec": "jpeg", "bytes": 10, "psnr": 20.0, "above": True},
        about | {"beside": "x", "codec": "jpeg", "bytes": 30, "psnr": 24.0, "above": False},
        about | {"beside": "x", "codec": "avq a", "bytes": 9, "psnr": 25.0},
    ]
    jpeg, avq = summary(rows)
    assert (jpeg["images"], jpeg["bytes"], jpeg["psnr"], jpeg["above"]) == (2, 20, 22, 1)
    assert (avq["images"], avq["bytes"], avq["above"]) == (1, 9, 0)


def test_what_entropy_coding_saves_is_measured_against_frequencies_of_the_codes_themselves():
    times = {
        "encode_ms": 11.0,
        "decode_ms": 6.0,
        "entropy_encode_ms": 1.0,
        "entropy_decode_ms": 2.0,
    }
    rows = [
        times | {"codec": "avq four", "bytes": 3, "codes": 4, "cross_entropy_bytes": 0.75},
        times | {"codec": "avq four", "bytes": 2, "codes": 4, "cross_entropy_bytes": 0.25},
    ]
    row = entropy_row(rows, [(np.array([[0, 1], [2, 3]]),), (np.array([[0, 0], [0, 0]]),)])
    bits = -(5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(1 / 8))
    assert row["order_0_bits_per_code"] == pytest.approx(bits)
    assert row["bits_per_code"] == 1.0
    assert row["saved"] == pytest.approx(1 - 1 / bits)
    assert row["largest_overhead_bytes"] == 2.25
    assert row["entropy_share_of_encode"] == pytest.approx(0.1)
    assert row["entropy_share_of_decode"] == pytest.approx(0.5)
    assert row["decoded_symbols_per_second"] == pytest.approx(2000)
