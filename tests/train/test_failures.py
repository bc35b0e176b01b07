"""Runs in which something fails: what they print, how they end, and that no step is lost."""

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import chex
import pytest

from avq import cpu, main, tasks
from avq.checkpoint import Checkpoints, NotSaved
from avq.errors import InputError
from avq.train import loop
from avq.train.stop import stop_on_signal
from avq.train.task import Evaluation
from avq.train.writers import Writer

from .test_stranger import Regression

SETTINGS = {
    "train": {"steps": 40, "eval_every": 20, "log_every": 10},
    "checkpoint": {"every": 1000},
    "parallel": {"devices": 1},
}


def task_of(kind, **sections):
    tasks.TASKS["regression"] = kind
    config = tasks.defaults("regression")
    for section, values in {**SETTINGS, **sections}.items():
        config[section].update(values)
    return tasks.make_task(config)


def train(kind, run, stop=None, **sections):
    return loop.train(task_of(kind, **sections), str(run), stop=stop)


def newest(run):
    with Checkpoints(run, read_only=True) as checkpoints:
        return checkpoints.restore_arrays()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run in which nothing fails."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train(Regression, run) == 0
    return run


def failing_evaluation(error):
    class Failing(Regression):
        def evaluator(self, data, mesh):
            def fail(variables):
                raise error

            return fail

    return Failing


def failing_data(error):
    class Failing(Regression):
        def batches(self, start):
            yield from itertools.islice(super().batches(start), 20 - start)
            raise error

    return Failing


@pytest.mark.parametrize("failing", [failing_evaluation, failing_data])
@pytest.mark.parametrize("error", [InputError("unreadable"), OSError(5, "Input/output error")])
def test_failure_costs_no_step(whole, tmp_path, failing, error):
    run = tmp_path / "run"
    with pytest.raises(type(error)) as raised:
        train(failing(error), run)
    assert raised.value is error
    assert newest(run)[0] == 20
    assert train(Regression, run) == 0
    chex.assert_trees_all_equal(newest(run), newest(whole))


def test_picture_that_cannot_be_written_costs_no_step(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "pictures", fail)
    with pytest.raises(OSError, match="No space left"):
        train(Regression, tmp_path)
    assert newest(tmp_path)[0] == 20


def test_failed_save_is_told_at_the_next_step(tmp_path, monkeypatch):
    steps: list[None] = []

    def failed(self):
        steps.append(None)
        if len(steps) == 13:
            raise NotSaved("could not save")

    monkeypatch.setattr(Checkpoints, "require_saved", failed)
    with pytest.raises(NotSaved):
        train(Regression, tmp_path)
    assert len(steps) == 13


def test_rest_of_a_save_into_a_folder_that_disappeared_is_no_run(tmp_path):
    rest = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp"
    rest.mkdir(parents=True)
    assert train(Regression, tmp_path) == 0
    assert not rest.exists()
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"has checkpoints but no config\.json"):
        train(Regression, tmp_path)


def test_signal_lost_before_the_first_step_stops_the_run_after_it(tmp_path):
    with stop_on_signal() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)  # and some callback drops what it raises
        assert train(Regression, tmp_path, stop) == 128 + signal.SIGTERM
    assert newest(tmp_path)[0] == 1


def test_compilation_is_in_no_speed_and_no_time_left(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    compiled = cpu.compiled

    def slow_at_first(*arguments, **options):
        program, seconds = compiled(*arguments, **options), iter([1000.0])

        def timed(*arguments):
            now[0] += next(seconds, 0.5)
            return program(*arguments)

        return timed

    monkeypatch.setattr(cpu, "compiled", slow_at_first)
    for steps, every in ((3, 2), (4, 1)):  # the second resumes
        assert train(Regression, tmp_path, train={"steps": steps, "log_every": every}) == 0
    records = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    speeds = [r.get("train/images_per_second") for r in records if "train/loss" in r]
    assert speeds == [8 / 0.5, 8 / 0.5, None]
    lines = capsys.readouterr().out.splitlines()
    assert "first step after 1000 s" in lines
    assert [line.partition("left ")[2] for line in lines if line.startswith("step ")] == [
        "0:00",  # half a second, and Python rounds to even
        "0:00",
        "",
    ]


def test_run_says_what_it_trains_and_when_it_is_done(tmp_path, capsys):
    class Told(Regression):
        def data_headline(self, data):
            return "endless points"

        def conclusion(self, run):
            return f"Look at {run}."

    run = tmp_path / "run"
    assert train(Told, run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"{run}: opening the data",
        f"{run}: endless points; parameters: line 3; devices: 1 x cpu",
        "compiling",
    ]
    assert lines[-1] == f"done. Look at {run}."


def test_learning_rate_is_logged_by_player(whole):
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    rates = [r["train/learning_rate/line"] for r in records if "train/loss" in r]
    assert rates == [0.5] * 4


def test_new_run_starts_from_the_weights_of_another(whole, tmp_path, capsys):
    task = task_of(Regression, train={"steps": 1}, optim={"learning_rate": 0.0})
    task.learning_rates = {"line": 0.0}
    assert loop.train(task, str(tmp_path / "new"), init_from=str(whole)) == 0
    assert f"starting from the weights of {whole} at step 40" in capsys.readouterr().out
    step, state = newest(tmp_path / "new")
    _, source = newest(whole)
    assert step == 1
    chex.assert_trees_all_equal(state["players"]["line"]["params"], source["ema"]["params"])


def vanishing(folder):
    """Trains while the run's folder is removed."""

    class Vanishing(Regression):
        def batches(self, start):
            for step, batch in enumerate(super().batches(start), start):
                if step == 13:
                    shutil.rmtree(folder)
                yield batch

    return ended(Vanishing, folder)


def full(folder):
    """Trains while the disk is full."""

    class Full(Regression):
        def batches(self, start):
            for step, batch in enumerate(super().batches(start), start):
                if step == 13:
                    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
                yield batch

    return ended(Full, folder)


def ended(kind, folder):
    """Exit code of `avq.main` for a task."""
    task = task_of(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "load", lambda arguments: task)
        patch.setattr(tasks, "make_task", lambda loaded: loaded)
        return main.main(["--config=regression", f"--workdir={folder}"])


CALL = """
import sys
from tests.train import test_failures
sys.exit(getattr(test_failures, sys.argv[1])(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("failure", "message"),
    [("vanishing", "has disappeared. Put it back"), ("full", "could not save to")],
)
def test_disk_that_fails_is_told_in_one_line(tmp_path, one_line, failure, message):
    command = [sys.executable, "-c", CALL, failure, tmp_path / "run"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert message in one_line(ended.stderr)
    assert ended.returncode == 1
    if failure == "vanishing":
        assert not (tmp_path / "run").exists()


def test_checkpoint_of_a_failed_evaluation_is_never_the_best(tmp_path):
    errors = itertools.count(100.0)

    class Worse(Regression):
        def evaluator(self, data, mesh):
            return lambda variables: Evaluation({"error": next(errors)})

    with pytest.raises(InputError):
        train(failing_evaluation(InputError("unreadable")), tmp_path)
    more = {"train": {"steps": 60, "eval_every": 20}, "checkpoint": {"keep": 1, "every": 1000}}
    assert train(Worse, tmp_path, **more) == 0
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [40, 60]
