"""Rows of `python -m benchmarks.quality` from a study's folder, and PSNR of any autoencoder."""

import csv
import json
import math

import numpy as np
import pytest

from avq.data.dataset import ImageSet
from avq.data.images import UnreadableImage
from benchmarks.speed.quality import DATA, mean_psnr, quality_row, quality_rows


def test_target_is_reached_at_the_first_evaluation_that_is_as_good(tmp_path):
    columns = ("system", "data", "seed", "step", "seconds", "psnr", "bits_per_pixel")
    rows = [
        ("plus", DATA, 0, 10, 5.0, 22.0, 0.625),
        ("plus", DATA, 0, 20, 9.5, 24.0, 0.625),
        ("plus", DATA, 0, 30, 15.0, 23.9, 0.625),
        ("paper", DATA, 1, 10, 7.0, 21.0, 0.5),
    ]
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    known = {DATA: {"0.6250": {"patch_kmeans": {"psnr": 23.0}}}}
    (tmp_path / "baselines.json").write_text(json.dumps(known))
    plus, paper = quality_rows(tmp_path, target=23.8)
    assert plus == {
        "system": "plus",
        "seed": 0,
        "seconds_to_target": 9.5,
        "seconds": 15.0,
        "psnr": 23.9,
        "bits_per_pixel": 0.625,
        "kmeans_psnr": 23.0,
    }
    assert paper["seconds_to_target"] is None
    assert paper["kmeans_psnr"] is None


def test_run_that_ends_with_the_target_has_reached_it():
    about = {"system": "peer", "seed": 0, "bits_per_pixel": 0.625}
    evaluations = [about | {"seconds": s, "psnr": p} for s, p in ((30.0, 20.5), (60.1, 23.4))]
    assert quality_row(evaluations, target=23.4)["seconds_to_target"] == 60.1


class Grey:
    """Images of one grey each, of which the second cannot be read."""

    augment = False

    def __len__(self):
        return 3

    def __getitem__(self, row):
        if row == 1:
            raise UnreadableImage("cut off")
        return np.full((16, 16, 3), 100 + row, np.uint8)

    def name(self, row):
        return f"{row}.png"


def test_psnr_is_that_of_readable_images_rounded_to_256_levels():
    def three_levels_too_bright(images):
        return (images + np.float32(3.2)) / np.float32(127.5) - 1

    images = ImageSet(Grey(), max_rejected=0.5)
    measured = mean_psnr(three_levels_too_bright, images, image_size=16, batch_size=2)
    assert measured == pytest.approx(20 * math.log10(255 / 3), abs=1e-3)
