"""Runs on the same images, side by side."""

import numpy as np
import pytest

from avq.errors import InputError
from avq.evaluate.comparison import compare_runs, require_same_data
from avq.evaluate.results import Results
from avq.report.comparison import as_json, lines


def results(psnr, fingerprint=0):
    n = len(psnr)
    prints = np.arange(n, dtype=np.uint32) + np.uint32(fingerprint)
    return Results({"n": n}, {"psnr": np.array(psnr, np.float32)}, np.arange(n), prints)


VALUES = {"n": 3, "psnr": 21.0, "usage": [0.5], "interval": {}, "split": "test"}


def test_other_runs_are_compared_with_the_first_by_image():
    pair = results([20, 21, 22]), results([22, 22, 22])
    comparison = compare_runs(["a", "b"], pair, [VALUES, VALUES | {"psnr": 22.0}])
    (difference,) = comparison.differences
    assert difference["psnr"].mean == pytest.approx(1)
    assert difference["psnr"].low < 1 < difference["psnr"].high
    assert as_json(comparison)["b"]["difference"]["psnr"][0] == pytest.approx(1)
    text = "\n".join(lines(comparison))
    assert "+1.0000 (" in text
    assert len({len(line) for line in text.splitlines()[:-1]}) == 1  # columns are aligned


def test_runs_on_other_images_are_refused():
    with pytest.raises(InputError, match="different images"):
        compare_runs(["a", "b"], (results([20.0]), results([20.0], 5)), [VALUES, VALUES])


def run(size=64, train="a"):
    return {"size": size, "name_hashes": {"train": train, "test": "b"}}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run(size=32), "images of h are 32 pixels wide, those of ah 64."),
        (run() | {"channels": 1}, "images of h have 1 channels, those of ah None"),
        (run(train="c"), "h was trained and tested on other images than ah. Give --data"),
    ],
)
def test_runs_of_other_data_are_refused(other, message):
    with pytest.raises(InputError, match=message):
        require_same_data(["ah", "h"], [run(), other], own=True)


def test_runs_of_other_training_images_may_be_compared_on_given_ones():
    require_same_data(["ah", "h"], [run(), run(train="c")], own=False)
