"""`avq study`: its refusals and its list; `tests/study` has the work."""

import pytest

FILE = """
from avq.study import Study
STUDY = Study({"plain": ["vqvae:tiny"]}, baseline="plain", data={"faces": "f.zip"}, seeds=2)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.py"
    path.write_text(FILE)
    return path


def test_dry_run_lists_the_runs_and_trains_none(invoke, file, tmp_path):
    result = invoke("study", file, "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.rsplit("-", 1)[0] for line in lines] == [
        "open  plain-faces-seed0",
        "open  plain-faces-seed1",
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--data", "cats=x.zip"], "no such data"), (["--data", "faces"], "give NAME=PATH")],
)
def test_bad_data_is_refused_in_one_line(invoke, one_line, file, tmp_path, arguments, named):
    result = invoke("study", file, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert named in one_line(result.stderr)
    assert not (tmp_path / "out").exists()
