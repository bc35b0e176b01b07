"""Warnings of alarms: each once while its condition lasts."""

from avq.train.guards import Guards


def test_condition_is_reported_when_it_begins_and_again_after_a_pause():
    def low(step, values):
        values["guard/low"] = int(values["x"] < 1)
        return {"low": f"x is {values['x']}"} if values["x"] < 1 else {}

    def odd(step, values):
        return {"odd": f"step {step}"} if step % 2 else {}

    guards, records, warnings = Guards([low, odd]), [], []
    for step, x in enumerate((5, 0, 0, 5, 0), start=1):
        record = {"x": x}
        warnings.append(guards.check(step, record))
        records.append(record["guard/low"])
    assert records == [0, 1, 1, 0, 1]
    assert warnings == [["step 1"], ["x is 0"], ["step 3"], [], ["x is 0", "step 5"]]
