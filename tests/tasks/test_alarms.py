"""Alarms of the autoencoder."""

import pytest

from avq.tasks.alarms import Ruin, collapse


@pytest.mark.parametrize(("usage", "collapsed"), [(0.101, 0), (0.1, 0), (0.099, 1), (0.0, 1)])
def test_level_that_uses_under_a_tenth_of_its_codes_has_collapsed(usage, collapsed):
    values = {"train/usage": [0.9, usage]}
    warnings = collapse(7, values)
    assert values["guard/collapsed"] == [0, collapsed]
    assert list(warnings) == ["level 2"] * collapsed
    if collapsed:
        assert "level 2" in warnings["level 2"]
        assert f"{usage:.1%}" in warnings["level 2"]


@pytest.mark.parametrize(("start", "ruined"), [(0, [0, 1, 1, 0]), (2, [0, 0, 1, 0]), (9, [0] * 4)])
def test_rise_of_the_loss_is_the_discriminator_s_only_once_it_plays(start, ruined):
    alarm, found = Ruin(start), []
    for step, loss in enumerate((0.2, 0.4, 0.31, 0.29), start=1):
        values = {"train/reconstruction": loss}
        warnings = alarm(step, values)
        found.append(values["guard/ruined"])
        assert len(warnings) == found[-1]
    assert found == ruined


def test_rise_is_measured_from_the_lowest_loss_so_far():
    alarm = Ruin(0)
    for step, loss in enumerate((0.5, 0.1, 0.5), start=1):
        warnings = alarm(step, {"train/reconstruction": loss})
    assert "5.0 times" in warnings["discriminator"]
