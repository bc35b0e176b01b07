"""Runs whose state is split over devices."""

import chex

from avq import parallel, tasks
from avq.checkpoint import Checkpoints
from avq.train import loop


def test_run_with_a_split_state_resumes_exactly_and_on_other_devices(
    plain, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(parallel, "SMALL", 1)

    def train(run, steps, *more):
        settings = [*plain, f"--config.train.steps={steps}", "--config.parallel.devices=4", *more]
        assert loop.train(tasks.make_task(tasks.load(settings)), str(tmp_path / run)) == 0

    def state(run, step):
        with Checkpoints(tmp_path / run, read_only=True) as checkpoints:
            return checkpoints.restore_arrays(step)[1]

    split = "--config.parallel.fsdp=True"
    train("straight", 4, split)
    assert "4 x cpu, each with 0." in capsys.readouterr().out
    train("resumed", 2, split)
    train("resumed", 4, split)
    chex.assert_trees_all_equal(state("resumed", 4), state("straight", 4))
    train("straight", 5, "--config.parallel.devices=2")
    chex.assert_tree_all_finite(state("straight", 5))
