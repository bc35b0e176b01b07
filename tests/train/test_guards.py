"""Warnings of what goes wrong without an error."""

import pytest

from avq.train.guards import Guards


def values(usage=(0.9, 0.8), mae=0.2):
    return {"train/usage": list(usage), "train/mae": mae}


def test_collapse_is_told_by_level_when_it_begins_and_recorded_while_it_lasts():
    guards, told, recorded = Guards(None), [], []
    for step, coarse in enumerate((0.5, 0.05, 0.02, 0.3, 0.01), start=1):
        record = values((0.9, coarse))
        told.append(guards.look(step, record))
        recorded.append(record["guard/collapsed"])
    assert recorded == [[0, 0], [0, 1], [0, 1], [0, 0], [0, 1]]
    assert [len(warnings) for warnings in told] == [0, 1, 0, 0, 1]
    assert "level 2" in told[1][0]
    assert "5.0%" in told[1][0]


@pytest.mark.parametrize(
    ("players_meet", "ruined"), [(2, [0, 0, 1, 0]), (9, [0] * 4), (None, [0] * 4)]
)
def test_rise_of_the_error_is_the_discriminators_only_once_it_plays(players_meet, ruined):
    guards = Guards(players_meet)
    records = [values(mae=mae) for mae in (0.2, 0.4, 0.31, 0.29)]
    told = [guards.look(step, record) for step, record in enumerate(records, start=1)]
    assert [record["guard/ruined"] for record in records] == ruined
    assert [len(warnings) for warnings in told] == ruined
