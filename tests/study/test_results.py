"""Rows of a study, its table and its tests, against scipy and numbers by hand."""

import json

import numpy as np
import pytest
from scipy import stats

from avq.errors import InputError
from avq.study import Study
from avq.study.definition import jobs_of
from avq.study.results import difference, last_rows, read_rows, rows_of_run, table, write_rows

STUDY = Study({"AH": ["ah_vqvae:tiny"], "H": ["h_vqvae:tiny"]}, baseline="AH")


def row(system, seed, psnr, step=4):
    return {
        **{"system": system, "data": "photographs", "seed": seed, "step": step, "config": "1e5"},
        **{"images": 8 * step, "seconds": 90.0, "psnr": psnr, "ssim": 0.5, "usage_1": 0.25},
        **{"usage_2": 1.0, "bits_per_pixel": 0.5},
    }


def test_rows_are_the_evaluations_of_a_run_and_the_time_of_its_steps(tmp_path):
    records = [
        {"step": 10, "train/loss": 1.0, "train/images_per_second": 40.0},
        {"step": 10, "eval/psnr": 12.3456789, "eval/usage": [0.5, 1.0], "eval/n": 7},
        {"step": 30, "train/loss": 1.0, "train/images_per_second": 80.0},
        {"step": 30, "eval/psnr": 13.0, "eval/usage": [0.5, 1.0], "eval/n": 7},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines)
    job = jobs_of(STUDY)[0]  # of batches of 8
    first, second = rows_of_run(tmp_path, job)
    assert first == {
        **{"system": "AH", "data": "photographs", "seed": 0, "step": 10, "config": job.digest},
        **{"images": 80, "seconds": 2.0, "psnr": 12.34568, "usage_1": 0.5, "usage_2": 1.0, "n": 7},
    }
    assert second["seconds"] == 4.0
    assert rows_of_run(tmp_path / "nowhere", job) == []


def test_line_that_was_cut_off_is_no_row_and_no_speed_is_no_time(tmp_path):
    whole = json.dumps({"step": 10, "eval/psnr": 12.5, "eval/bits_per_pixel": 0.5})
    (tmp_path / "metrics.jsonl").write_text(whole + '\n{"step": 20, "eval/ps')
    (only,) = rows_of_run(tmp_path, jobs_of(STUDY)[0])
    assert (only["step"], only["seconds"]) == (10, None)
    write_rows(tmp_path / "results.csv", [only], STUDY)
    assert read_rows(tmp_path / "results.csv")[0]["seconds"] is None
    line = next(line for line in table([only], {}, STUDY).splitlines() if line.startswith("| AH "))
    assert line.endswith("| 10 |  |")


def test_csv_keeps_rows_whatever_the_order_they_came_in(tmp_path):
    rows = [row("H", 1, 20.0), row("AH", 0, 21.5), row("H", 0, 20.25)]
    del rows[0]["usage_2"]  # a system of one level
    write_rows(tmp_path / "a.csv", rows, STUDY)
    write_rows(tmp_path / "b.csv", rows[::-1], STUDY)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    found = read_rows(tmp_path / "a.csv")
    assert found == [row("AH", 0, 21.5), row("H", 0, 20.25), row("H", 1, 20.0) | {"usage_2": None}]
    assert found[0]["config"] == "1e5"  # a digest, no number
    assert read_rows(tmp_path / "nowhere.csv") == []


def test_other_csv_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no table of a study"):
        read_rows(tmp_path / "other.csv")


def test_difference_is_that_of_a_paired_t_test():
    pairs = [(21.0, 20.5), (22.5, 21.0), (20.0, 19.75), (23.0, 22.0)]
    a, b = np.array(pairs).T
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert (
        difference(pairs) == f"{np.mean(a - b):+.2f} [{low:+.2f}, {high:+.2f}] p {test.pvalue:.3f}"
    )
    assert difference(pairs[:1]) == "+0.50"
    assert difference([]) == ""


def test_table_compares_the_seeds_that_both_have_at_their_last_evaluation():
    rows = [
        *(row("AH", seed, psnr) for seed, psnr in enumerate((20.0, 21.0, 22.0))),
        *(row("H", seed, psnr) for seed, psnr in ((0, 19.5), (2, 21.0))),
        row("H", 0, 5.0, step=2),
    ]
    assert len(last_rows(rows)) == 5
    kmeans = {"psnr": 20.5, "ssim": 0.75, "bits_per_pixel": 0.5}
    baselines = {"photographs": {"0.5000": {"patch_kmeans": kmeans}}}
    lines = table(rows, baselines, STUDY).splitlines()
    ah, h = (line.split(" | ") for line in lines if line.startswith(("| AH ", "| H ")))
    assert ah[1:5] == ["3", "21.00 ± 1.00", "", "+0.50"]
    assert h[1:3] == ["2", "20.25 ± 1.06"]
    assert h[3].startswith("-0.75 [")
    assert h[4:9] == ["-0.25", "0.500", "25%/100%", "", "0.500"]
    assert "| patch_kmeans | 0.5000 | 20.50 | 0.750 | 0.500 |" in lines
    assert "patch_kmeans" not in table(rows, {}, STUDY)
