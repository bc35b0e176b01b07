"""Training curves and cost of a run."""

import xml.etree.ElementTree as ET

import pytest

from avq.report.training import curves, read_records, training_seconds

from .report_helpers import RECORDS


def test_records_are_read_up_to_the_step_and_broken_lines_left_out(tmp_path):
    lines = ['{"step": 1, "train/loss": 2}', "[3]", '{"step": "x"}', "", '{"step": 2}', '{"st']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert [record["step"] for record in read_records(tmp_path, 5)] == [1, 2]
    assert [record["step"] for record in read_records(tmp_path, 1)] == [1]


def test_run_without_records_has_none(tmp_path):
    assert read_records(tmp_path, 5) == []
    assert curves([]) == {}


def test_curves_have_a_line_for_each_level():
    charts = curves(RECORDS)
    assert list(charts) == ["Loss", "PSNR of the test images", "Perplexity of the codes"]
    words = "".join(ET.fromstring(charts["Perplexity of the codes"]).itertext())
    assert "level 1" in words
    assert "level 2" in words


def test_cost_is_the_time_of_the_steps():
    assert training_seconds(RECORDS, 8) == pytest.approx(100 * 8 / 4 + 100 * 8 / 8)


@pytest.mark.parametrize(("step", "seconds"), [(50, 100), (100, 200), (150, 250), (300, 300)])
def test_cost_up_to_a_step_is_at_the_speed_of_its_interval(step, seconds):
    assert training_seconds(RECORDS, 8, step) == pytest.approx(seconds)


@pytest.mark.parametrize("speed", [None, 0, "fast"])
def test_cost_is_unknown_where_an_interval_has_no_speed(speed):
    record = {"step": 300, "train/loss": 1.0, "train/images_per_second": speed}
    assert training_seconds([*RECORDS, record], 8) is None
    assert training_seconds([], 8) is None
