"""Whole runs: what they write, how they stop, and that a resumed one ends as one never stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import ClassVar

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avq import cpu, main, tasks
from avq.checkpoint import Checkpoints
from avq.errors import InputError
from avq.train import loop
from avq.train.interval import Diverged, Interval
from avq.train.stop import stop_on_signal
from avq.train.writers import Progress


def train(smoke, run, *more, profile=0):
    task = tasks.make_task(tasks.load([*smoke, *more]))
    with stop_on_signal() as stop:
        return loop.train(task, str(run), profile, stop=stop)


def final_state(run, step):
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.latest() == step
        return checkpoints.restore_arrays(step)[1]


class Reports(Progress):
    """Progress that keeps its reports: step, images a second and seconds left."""

    kept: ClassVar[list[tuple[int, float, float]]] = []

    def report(self, step, headline, values, left):
        self.kept.append((step, values["train/images_per_second"], left))
        super().report(step, headline, values, left)


@pytest.fixture(scope="module")
def finished(smoke, tmp_path_factory):
    """A run that was never stopped, two steps of it profiled, and its arguments."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Progress", Reports)
        assert train(smoke, run, profile=2) == 0
    return run, smoke


def interrupt_after(steps, number, patch):
    """Sends this process a signal after so many steps."""
    add, seen = Interval.add, []

    def add_and_interrupt(self, metrics):
        add(self, metrics)
        seen.append(metrics)
        if len(seen) == steps:
            os.kill(os.getpid(), number)

    patch.setattr(Interval, "add", add_and_interrupt)


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_the_files_that_the_readme_names(finished):
    run, _ = finished
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "dataset.json", "metrics.jsonl", "checkpoints", "samples"} <= names
    assert any(name.startswith("events") for name in names)
    assert {path.name for path in (run / "checkpoints").iterdir()} >= {"3", "4", "6"}
    trained = [r for r in records(run) if "train/loss" in r]
    evaluated = [r for r in records(run) if "eval/psnr" in r]
    assert [r["step"] for r in trained] == [2, 4, 6]
    assert [r["step"] for r in evaluated] == [3, 6]
    assert all(np.isfinite(r["train/loss"]) for r in trained)
    assert evaluated[-1]["eval/n"] == 4
    assert len(evaluated[-1]["eval/usage"]) == 2


def test_time_left_is_that_of_the_images_left_at_the_speed_of_the_interval(finished):
    assert [step for step, _, _ in Reports.kept] == [2, 4, 6]
    for step, speed, left in Reports.kept:
        assert left == pytest.approx((6 - step) * 8 / speed)


def test_grid_shows_inputs_above_reconstructions(finished, image_folder):
    run, _ = finished
    grid = np.asarray(Image.open(run / "samples" / "0000006.png"))
    chex.assert_shape(grid, (2 * 16, 4 * 16, 3))
    with Image.open(image_folder / "test" / "16.png") as image:
        first = image.crop((0, 2, 20, 22)).resize((16, 16), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(grid[:16, :16], np.asarray(first))
    assert not np.array_equal(grid[:16], grid[16:])


def test_statistics_of_the_training_pixels_are_kept(finished, image_folder):
    run, _ = finished
    summary = json.loads((run / "dataset.json").read_text())
    pixels = []
    for i in range(16):
        with Image.open(image_folder / "train" / f"{i:02d}.png") as image:
            square = image.crop((0, 2, 20, 22)).resize((16, 16), Image.Resampling.LANCZOS)
        pixels.append(np.asarray(square) / 127.5 - 1)
    assert summary["counts"] == {"train": 16, "test": 4}
    np.testing.assert_allclose(summary["pixel_variance"], np.var(pixels), rtol=1e-6)
    np.testing.assert_allclose(summary["pixel_std"], np.std(pixels), rtol=1e-6)
    np.testing.assert_allclose(summary["pixel_mean"], np.mean(pixels), rtol=1e-6)


def test_run_interrupted_twice_resumes_to_the_same_bits(finished, tmp_path, monkeypatch):
    whole, smoke = finished
    run = tmp_path / "run"
    for number, steps, last in ((signal.SIGINT, 3, 3), (signal.SIGHUP, 2, 5)):
        with monkeypatch.context() as patch:
            interrupt_after(steps, number, patch)
            assert train(smoke, run) == 128 + number
        final_state(run, last)
    assert train(smoke, run) == 0
    chex.assert_trees_all_equal(final_state(run, 6), final_state(whole, 6))
    evaluated = [{k: v for k, v in r.items() if k != "step"} for r in records(run) if "eval/n" in r]
    assert evaluated == [
        {k: v for k, v in r.items() if k != "step"} for r in records(whole) if "eval/n" in r
    ]


KILLED = """
import sys, jax
jax.config.update("jax_num_cpu_devices", 8)
from avq import main
sys.exit(main.main(sys.argv[1:]))
"""


def test_run_killed_outright_repeats_the_lost_steps_exactly(finished, tmp_path):
    whole, smoke = finished
    run = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, *smoke, f"--workdir={run}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 4/"):
                process.kill()
    assert process.returncode == -signal.SIGKILL
    assert train(smoke, run) == 0
    chex.assert_trees_all_equal(final_state(run, 6), final_state(whole, 6))
    steps = [r["step"] for r in records(run) if "train/loss" in r]
    assert steps == [2, 4, 6]


def test_finished_run_says_how_it_can_go_on(finished, capsys):
    run, smoke = finished
    assert train(smoke, run) == 0
    assert "all 6 steps are done. Raise --config.train.steps" in capsys.readouterr().out


def test_run_goes_on_when_steps_are_raised_also_on_other_devices(plain, tmp_path):
    run = tmp_path / "run"
    assert train(plain, run, "--config.train.steps=2") == 0
    assert train(plain, run, "--config.train.steps=3", "--config.parallel.devices=4") == 0
    state = final_state(run, 3)
    chex.assert_tree_all_finite(state)
    assert int(state["step"]) == 3


def test_resuming_under_another_config_names_the_keys_and_changes_nothing(finished):
    run, smoke = finished
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}
    other = ["--config.model.commitment=0.5", "--config.seed=3", "--config.train.log_every=1"]
    with pytest.raises(
        InputError, match=r"model\.commitment \(0\.25 there, 0\.5 now\); seed"
    ) as error:
        train(smoke, run, *other)
    assert "log_every" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))} == before


def test_unreadable_test_image_is_refused_before_the_first_step(plain, image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "images")
    (images / "test" / "17.png").write_bytes(b"no image")
    place = f"--config.data.path={images}"
    with pytest.raises(InputError, match=r"1 of 4 images are unreadable.*17\.png"):
        train(plain, tmp_path / "run", place)
    assert not (tmp_path / "run").exists()


def test_resuming_on_other_images_is_refused(smoke, run, image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "images")
    (images / "train" / "00.png").unlink()
    copy = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(InputError, match=r"train: 0 added, 1 removed"):
        train(smoke, copy, f"--config.data.path={images}", "--config.train.steps=4")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.image_size=20", r"data\.image_size=20 .* stride 8\. Use 16 or 24"),
        ("data.batch_size=6", r"data\.batch_size=6 cannot be split over 4 devices"),
        ("optim.accumulate=3", r"optim\.accumulate=3 does not divide the 2 images"),
        ("optim.accumulate=0", r"optim\.accumulate=0 is out of range"),
        ("parallel.devices=9", r"9 devices asked for, 8 present"),
        ("data.batch_size=20", r"16 readable training images are fewer than data\.batch_size=20"),
        ("data.path=", r"data\.path is not set"),
        ("data.path=/no/such/place", r"no such file or folder: '/no/such/place'"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(smoke, tmp_path, setting, message):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=message):
        train(smoke, run, "--config.parallel.devices=4", f"--config.{setting}")
    assert not run.exists()


@pytest.mark.parametrize("saves_alone", [False, True])
def test_loss_that_is_not_finite_stops_the_run_and_names_the_steps(
    plain, tmp_path, monkeypatch, saves_alone
):
    compiled = cpu.compiled

    def compile_and_spoil(*arguments, **options):
        program = compiled(*arguments, **options)

        def spoilt(*arguments):
            state, metrics = program(*arguments)
            loss = jnp.where(state.step == 4, jnp.nan, metrics.means["loss"])
            return state, metrics.replace(means=metrics.means | {"loss": loss})

        return spoilt

    monkeypatch.setattr(cpu, "compiled", compile_and_spoil)
    seldom = ["train.log_every=50", "train.eval_every=50", "checkpoint.every=1"]
    more = [f"--config.{setting}" for setting in seldom] if saves_alone else []
    with pytest.raises(
        Diverged, match=r"step 4 is not finite: .*loss nan.* The newest checkpoint is of step 3"
    ):
        train(plain, tmp_path / "run", *more)


def test_profile_traces_the_steps_asked_for(finished):
    run, _ = finished
    traces = [path for path in (run / "profile").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".xplane.pb") and path.stat().st_size for path in traces)


@pytest.mark.parametrize("value", ["x", "-1", ""])
def test_profile_wants_a_number_of_steps(smoke, tmp_path, capsys, value):
    assert main.main([*smoke, f"--workdir={tmp_path}", f"--profile={value}"]) == 2
    assert "number of steps" in capsys.readouterr().err
