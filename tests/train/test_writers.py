"""Records, TensorBoard events, pictures and lines on the terminal of a run."""

import json
import sys
import time
from unittest.mock import Mock, call

import numpy as np
import pytest
from PIL import Image

from avq.train import writers
from avq.train.writers import Progress, Writer


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def events(monkeypatch):
    """Files of TensorBoard events, in the order in which they were made: what is asked of them."""
    found = []

    def make(folder, purge_step=None):
        found.append(Mock(purge_step=purge_step))
        return found[-1]

    monkeypatch.setattr(writers, "EventFile", make)
    return found


def test_values_are_a_line_of_json_and_lists_are_scalars_by_level(tmp_path, events):
    writer = Writer(tmp_path, 0)
    writer.scalars(3, {"train/loss": 0.5, "train/usage": [0.25, 1.0]})
    writer.scalars(4, {"train/loss": 0.25})
    writer.close()
    assert records(tmp_path) == [
        {"step": 3, "train/loss": 0.5, "train/usage": [0.25, 1.0]},
        {"step": 4, "train/loss": 0.25},
    ]
    assert events[0].mock_calls == [
        call.scalar("train/loss", 0.5, 3),
        call.scalar("train/usage/level1", 0.25, 3),
        call.scalar("train/usage/level2", 1.0, 3),
        call.flush(),
        call.scalar("train/loss", 0.25, 4),
        call.flush(),
        call.close(),
    ]


def test_pictures_are_files_by_step_and_name(tmp_path, events):
    writer = Writer(tmp_path, 0)
    first, second = (np.full((2, 3, 3), value, np.uint8) for value in (10, 200))
    writer.pictures(12, {"samples": first, "attention": second})
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    assert names == {"0000012.png", "0000012_attention.png"}
    np.testing.assert_array_equal(Image.open(tmp_path / "samples" / "0000012.png"), first)
    np.testing.assert_array_equal(
        Image.open(tmp_path / "samples" / "0000012_attention.png"), second
    )
    images = [shown.args for shown in events[0].image.mock_calls]
    assert [(name, step) for name, _, step in images] == [("samples", 12), ("attention", 12)]


@pytest.mark.parametrize(("start", "purged"), [(0, None), (1, 2), (5, 6)])
def test_events_after_the_step_that_is_resumed_from_are_purged(tmp_path, events, start, purged):
    Writer(tmp_path, start)
    assert events[0].purge_step == purged


def test_records_after_the_step_that_is_resumed_from_and_damaged_ones_go(tmp_path, events):
    (tmp_path / "samples").mkdir()  # of the run that is resumed
    lines = [json.dumps({"step": step, "x": step / 2}) for step in (1, 2, 3)]
    damaged = ['{"step": 1, "x', "3", "[1]", "null", "{}", '{"step": "1"}', '{"step": null}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, *damaged]) + "\n")
    Writer(tmp_path, 2).scalars(3, {"x": 9})
    assert records(tmp_path) == [
        {"step": 1, "x": 0.5},
        {"step": 2, "x": 1.0},
        {"step": 3, "x": 9},
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "samples"}


def test_other_processes_write_and_print_nothing(tmp_path, monkeypatch, capsys, events):
    monkeypatch.setattr(writers, "is_main_process", lambda: False)
    writer = Writer(tmp_path, 0)
    writer.scalars(1, {"x": 1})
    writer.pictures(1, {"samples": np.zeros((2, 2, 3), np.uint8)})
    writer.close()
    progress = Progress(0, 10)
    progress.advance()
    progress.report(5, "loss 1", {"train/images_per_second": 2.0, "train/data_wait": 0.0}, 1.0)
    progress.say("words")
    progress.close()
    assert list(tmp_path.iterdir()) == []
    assert events == []
    assert capsys.readouterr() == ("", "")


def test_line_of_an_interval_has_step_headline_speed_waiting_and_time_left(capsys):
    progress = Progress(3, 20)
    values = {"train/images_per_second": 12.34, "train/data_wait": 0.051}
    progress.report(5, "loss 0.5", values, 125.4)
    progress.close()
    expected = "step 5/20  loss 0.5  12.3 img/s  wait 5.1%  left 2:05\n"
    assert capsys.readouterr().out == expected


def test_line_of_an_interval_without_a_speed_has_none(capsys):
    Progress(3, 20).report(4, "loss 0.5", {}, None)
    assert capsys.readouterr().out == "step 4/20  loss 0.5\n"


def test_steps_of_a_first_interval_that_takes_long_are_shown(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(3, 20)

    def lines_of_steps(count):
        for _ in range(count):
            now[0] += 6
            progress.advance()
        return capsys.readouterr().out.splitlines()

    assert lines_of_steps(7) == ["step 6/20", "step 9/20"]  # every third of six seconds
    progress.report(10, "loss 0.5", {}, None)
    capsys.readouterr()
    assert lines_of_steps(7) == []


def test_terminal_has_a_bar_that_begins_where_the_run_does(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress(3, 20)
    assert (progress._bar.n, progress._bar.total, progress._bar.disable) == (3, 20, False)
    progress.advance()
    assert progress._bar.n == 4
    values = {"train/images_per_second": 12.34, "train/data_wait": 0.051}
    progress.report(5, "loss 0.5", values, 125.4)
    assert progress._bar.postfix == "loss 0.5  12.3 img/s  wait 5.1%"
    progress.say("words beside the bar")
    progress.close()
    assert "words beside the bar" in capsys.readouterr().out
