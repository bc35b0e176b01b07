"""Commands of the benchmarks, their table, and what they share."""

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks import _common
from benchmarks.__main__ import README

FOLDER = Path(benchmarks.__file__).parent
COMMANDS = re.findall(r"^\| `python -m benchmarks\.(\w+)`", README.read_text(), re.MULTILINE)


def test_table_lists_every_module_that_can_be_run():
    runnable = [
        path.stem
        for path in FOLDER.glob("*/*.py")
        if 'if __name__ == "__main__"' in path.read_text()
    ]
    assert sorted(COMMANDS) == sorted(runnable)


def test_no_two_modules_have_one_name():
    names = [path.stem for path in FOLDER.glob("*/*.py") if path.stem != "__init__"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_finds_its_module_without_the_folder(name):
    spec = find_spec(f"benchmarks.{name}")
    assert spec is not None
    assert Path(str(spec.origin)).parent.parent == FOLDER


@pytest.mark.parametrize("name", COMMANDS)
def test_command_can_be_imported_where_its_peers_are(name):
    try:
        importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:  # of benchmarks/requirements.txt
        if str(error.name).partition(".")[0] in ("avq", "benchmarks"):
            raise


def test_package_prints_the_table():
    command = [sys.executable, "-m", "benchmarks"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    assert printed.stdout.splitlines()[0] == "| command | question | minutes | page |"
    assert len(printed.stdout.splitlines()) == 2 + len(COMMANDS)


def test_fewer_than_two_timed_calls_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        _common.make_parser("Title", runs=5).parse_args(["--runs", "1"])
    assert stopped.value.code == 2
    assert "argument --runs: '1' is no number from 2 on" in capsys.readouterr().err


def test_config_flags_are_split_from_the_others(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--runs", "3", "--config.seed=1", "--config=a.py:tiny"])
    arguments, settings = _common.parse_with_config(_common.make_parser("Title", runs=5))
    assert arguments.runs == 3
    assert settings == ["--config=a.py:tiny", "--config.seed=1"]


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    medians = _common.medians_in_turns(calls, rounds=2, runs=2)
    assert medians.keys() == {"a", "b"}
    assert "".join(order) == 2 * ("aaa" + "bbb")  # one to warm up, two timed


def test_memory_of_training_is_its_peak_above_what_was_there():
    step_mebibytes = iter((16, 96, 16))

    def make_step():
        model = np.ones(32 * 2**20, np.uint8)
        return lambda: model.sum() + np.ones(next(step_mebibytes) * 2**20, np.uint8).sum()

    there = np.ones(64 * 2**20, np.uint8)
    peak = _common.training_memory(make_step) / 2**20
    assert there.size == 64 * 2**20
    assert 120 < peak < 200  # 32 + 96, and what sums need
