"""Rows of `python -m benchmarks.quality` from a study's folder."""

import csv
import json

from benchmarks.speed.quality import DATA, quality_rows


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
