"""A run on object storage, from training to its use."""

import json
import shutil

import chex
import pytest

import avq
from avq import tasks
from avq.checkpoint import Checkpoints
from avq.errors import InputError
from avq.storage.copies import local
from avq.storage.runs import run_folder
from avq.train import loop
from tests.train.test_stranger import Regression

URL = "memory://bucket/run"


@pytest.fixture
def train(monkeypatch):
    """Trains a line in twenty steps in a folder, with a checkpoint every four."""
    monkeypatch.setitem(tasks.TASKS, "regression", Regression)

    def call(workdir, seed=0):
        config = tasks.defaults("regression")
        config.update({"seed": seed, "train": {"steps": 20, "eval_every": 20, "log_every": 2}})
        config.checkpoint.every = 4
        return loop.train(tasks.make_task(config), str(workdir))

    return call


def final(run):
    with Checkpoints(run, read_only=True) as checkpoints:
        return checkpoints.restore_arrays()


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]


def test_a_killed_run_resumes_to_the_same_bits(bucket, train, tmp_path, capsys):
    whole, remote = tmp_path / "whole", bucket / "run"
    assert [train(whole), train(URL)] == [0, 0]
    for step in (16, 20):  # as if killed before they were whole
        (remote / f"checkpoints/{step}/whole.json").unlink()
    before = remote.files()
    with pytest.raises(InputError, match="another config"):
        train(URL, seed=5)
    assert remote.files() == before
    assert train(URL) == 0
    assert "resuming from step 12" in capsys.readouterr().out
    chex.assert_trees_all_equal(final(local(URL)), final(whole))
    assert losses(local(URL)) == losses(whole)


def test_a_released_model_is_read(bucket, released, tokenizer):
    (bucket / "model").put({path.name: path for path in released.iterdir() if path.is_file()})
    assert avq.load("memory://bucket/model").digest == tokenizer.digest


def test_a_model_is_read_and_a_changed_checkpoint_passed_over(bucket, run):
    with run_folder(URL) as place, place.held():
        shutil.copytree(run, place.folder, dirs_exist_ok=True)
        (newest,) = (place.folder / "checkpoints").iterdir()
        shutil.copytree(newest, newest.with_name("9"))
    assert avq.load(URL).digest == avq.load(run).digest
    with pytest.raises(InputError, match="has no checkpoint of step 3"):
        avq.load(URL, step=3)
    sizes = {name: entry.size for name, entry in (bucket / "run").files().items() if "/9/" in name}
    largest = max(sizes, key=lambda name: sizes[name])
    (bucket / "run" / largest).write_text("x" * sizes[largest])
    with Checkpoints(local(URL), read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 9]
        assert checkpoints.restore_arrays()[0] == 2
