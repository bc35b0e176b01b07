"""Training a prior: its data, its figures, that it resumes exactly, and what is refused."""

import json
import shutil
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest

from avq import parallel, tasks
from avq.apply.code_shards import read
from avq.apply.prior import load_prior
from avq.checkpoint import Checkpoints
from avq.errors import InputError
from avq.tasks import prior_data
from avq.tasks.prior_data import classes_of
from avq.train import loop
from avq.train.state import init_state


def train(arguments, folder, *more):
    task = tasks.make_task(tasks.load([*arguments, *more]))
    assert loop.train(task, str(folder)) == 0


def refusal(arguments, folder, *more):
    with pytest.raises(InputError) as error:
        train(arguments, folder, *more)
    message = str(error.value)
    assert "\n" not in message
    return message


def final_state(run):
    with Checkpoints(run, read_only=True) as checkpoints:
        return checkpoints.restore_arrays()


def test_resumed_run_ends_at_the_same_bits_and_encodes_nothing_again(
    prior_smoke, prior_run, tmp_path, monkeypatch, capsys
):
    train(prior_smoke, tmp_path / "run", "--config.train.steps=2")
    assert "encoding 20 images, once" in capsys.readouterr().out
    encoded = (tmp_path / "run" / "codes" / "codes.json").stat().st_mtime_ns
    train(prior_smoke, tmp_path / "run")
    chex.assert_trees_all_equal(final_state(tmp_path / "run"), final_state(prior_run))
    assert (tmp_path / "run" / "codes" / "codes.json").stat().st_mtime_ns == encoded
    assert "encoding" not in capsys.readouterr().out


def test_codes_of_tokenize_are_the_same_data(prior_smoke, prior_run, tmp_path):
    train(prior_smoke, tmp_path / "run", f"--config.data.path={prior_run / 'codes'}")
    chex.assert_trees_all_equal(final_state(tmp_path / "run"), final_state(prior_run))
    assert not (tmp_path / "run" / "codes").exists()


def test_figures_are_the_likelihood_of_the_averaged_parameters(prior_run, tokenizer):
    lines = [json.loads(line) for line in (prior_run / "metrics.jsonl").read_text().splitlines()]
    (measured,) = (line for line in lines if "eval/bits_per_code" in line and line["step"] == 4)
    prior = load_prior(prior_run, step=4)
    for name, split in (("eval/", "test"), ("eval/train_", "train")):
        _, codes = read(prior_run / "codes", split).arrays()
        if split == "train":  # as many as test images, evenly spaced
            codes = tuple(level[[0, 5, 10, 15]] for level in codes)
        (bits,) = prior.bits(codes)
        assert bits.shape == (4, 4, 4)
        assert measured[f"{name}bits_per_code"] == pytest.approx(bits.mean(), rel=1e-5)
        assert measured[f"{name}bits_per_code_by_level"] == [measured[f"{name}bits_per_code"]]
        expected = bits.sum(axis=(1, 2)).mean() / (3 * 16 * 16)
        assert measured[f"{name}bits_per_dim"] == pytest.approx(expected, rel=1e-5)
    assert (prior_run / "samples" / "0000004.png").stat().st_size > 0


def test_another_kind_on_two_devices_with_classes(prior_smoke, run, image_folder, tmp_path):
    for path in image_folder.rglob("*.png"):
        folder = tmp_path / "in" / path.parent.name / ("cat" if int(path.stem) % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    more = ("--config.model.kind=masked", "--config.parallel.devices=2")
    train(prior_smoke, tmp_path / "run", f"--config.data.path={tmp_path / 'in'}", *more)
    prior = load_prior(tmp_path / "run")
    assert prior.classes == ("cat", "dog")
    assert [prior.label(name) for name in ("cat", "dog", None)] == [0, 1, 2]
    assert prior.variables["params"]["network"]["labels"]["embedding"].shape == (3, 8)


def test_step_draws_the_same_on_any_number_of_devices(prior_smoke):
    more = ("model.kind=masked", "data.unlabelled=0.5", "model.dropout=0.5")
    task: Any = tasks.make_task(tasks.load([*prior_smoke, *(f"--config.{each}" for each in more)]))
    task.model = task._model(classes=3)
    optimizers, rng = {"prior": optax.sgd(1.0)}, np.random.default_rng(0)
    state = jax.device_get(init_state(task, optimizers))
    codes = tuple(rng.integers(0, 8, (8, *grid)).astype(np.uint8) for grid in task.model.grids)
    batch = {"codes": codes, "label": np.arange(8, dtype=np.int32) % 3}
    after = []
    for devices in (1, 4):
        mesh = parallel.make_mesh(devices)
        placed = jax.device_put(jax.tree.map(np.array, state), parallel.replicated(mesh))
        step = loop.compile_step(task, optimizers, mesh)
        after.append(jax.device_get(step(placed, {}, parallel.shard_batch(batch, mesh))))
    chex.assert_trees_all_close(*after, rtol=1e-4, atol=1e-6)


def test_batches_hold_codes_and_their_classes(prior_run, tokenizer, monkeypatch):
    settings = prior_data.CodeSettings(batch_size=4)
    data = prior_data.CodeData(prior_run / "codes", tokenizer, settings, seed=0)
    batches = data.batches(0)
    seen = [next(batches) for _ in range(8)]
    batches.close()
    again = data.batches(5)
    chex.assert_trees_all_equal(next(again), seen[5])
    again.close()
    _, (codes,) = read(prior_run / "codes", "train").arrays()
    for epoch in (seen[:4], seen[4:]):  # each image once
        rows = np.concatenate([batch["codes"][0] for batch in epoch])
        assert rows.dtype == np.uint8
        assert sorted(map(bytes, rows)) == sorted(map(bytes, codes))
    assert seen[0]["label"].tolist() == [0] * 4


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["train/a/1.png", "train/b/1.png", "val/a/2.png"], ["a", "b"]),
        (["train/1.png", "test/1.png"], []),
        (["a/1.png", "a/2.png"], []),
        (["a/1.png", "b/2.png", "3.png"], []),
    ],
)
def test_classes_are_the_folders_of_all_images(names, classes):
    assert classes_of(names) == classes


def test_what_does_not_fit_is_refused_in_a_line(prior_smoke, prior_run, run, tmp_path):
    assert "--config.tokenizer=RUN" in refusal(prior_smoke, tmp_path / "a", "--config.tokenizer=")
    message = refusal(prior_smoke, tmp_path / "a", "--config.data.batch_size=17")
    assert "16 training and 4 test images are too few" in message
    message = refusal(prior_smoke, tmp_path / "a", "--config.model.heads=3")
    assert "model.heads=3 does not divide model.width=8" in message
    for key, value in (("model", "of another"), ("codebook_sizes", [9]), ("grids", [[2, 2]])):
        codes = tmp_path / key
        shutil.copytree(prior_run / "codes", codes)
        about = json.loads((codes / "codes.json").read_text())
        (codes / "codes.json").write_text(json.dumps(about | {key: value}))
        message = refusal(prior_smoke, tmp_path / "a", f"--config.data.path={codes}")
        assert f"holds codes of {key} {value}" in message


def test_another_tokenizer_is_refused(prior_smoke, prior_run, run, tmp_path):
    shutil.copytree(prior_run, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "dataset.json").read_text())
    (tmp_path / "run" / "dataset.json").write_text(json.dumps(about | {"tokenizer": "0" * 16}))
    assert "begun with 0000000000000000" in refusal(prior_smoke, tmp_path / "run")
    with pytest.raises(InputError, match="models the codes of 0000000000000000"):
        load_prior(tmp_path / "run")
    with pytest.raises(InputError, match="is not the run of a prior"):
        load_prior(run)
