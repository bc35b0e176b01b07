"""Runs of earlier versions: `runs/format1.zip` is one of config format 1, 2 steps of a small
`ah_vqvae` on the embedded photographs.
"""

import json
import zipfile
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import skimage.data

from avq import tasks
from avq.checkpoint import Checkpoints
from avq.config import FORMAT, flatten
from avq.data.sources.photographs import TEST_PHOTOGRAPHS, Photographs
from avq.data.views import SquareView
from avq.errors import InputError
from avq.evaluate.evaluation import Evaluator, open_test_images
from avq.parallel import make_mesh
from avq.train import loop
from avq.trained import load_model

SETTINGS = {
    "data.image_size": 16,
    "model.codebook_size": 8,
    "model.code_dim": 4,
    "model.base_filters": "(4,4)",
    "model.aren_filters": 4,
    "model.decoder_filters": "(4,4,4)",
    "model.attention_dim": 4,
    "model.encoder_blocks": 0,
    "model.decoder_blocks": 0,
    "discriminator.filters": "(4,4,1)",
    "discriminator.strides": "(2,2,1)",
    "optim.optimizer": "adam",
    "optim.decay": "constant",
    "train.steps": 3,
    "train.eval_every": 3,
    "checkpoint.every": 2,
    "parallel.devices": 1,
}
# At their defaults; some were no keys in the first versions.
TAKEN_OUT = (
    "optim.accumulate",
    "optim.skip_nonfinite",
    "checkpoint.keep_best",
    "data.workers",
    "model.sync_batch_norm",
    "model.remat",
    "loss.adversarial_start",
)


@pytest.fixture
def older(tmp_path):
    with zipfile.ZipFile(Path(__file__).parent / "runs" / "format1.zip") as archive:
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


class Recoloured(Photographs):
    """Test squares of the photographs as the first versions drew them, half of them in changed
    colours.
    """

    def __init__(self):
        super().__init__("test", 16)
        view, rng = SquareView(16, augment=True), np.random.default_rng(1967)
        whole = [getattr(skimage.data, name.split(".")[0])() for name in TEST_PHOTOGRAPHS]
        colours = [np.stack([image] * 3, -1) if image.ndim == 2 else image for image in whole]
        self._images = [view(colours[i % 4], rng) for i in range(512)]


def rewrite(run, change):
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def take_out(config):
    for key in TAKEN_OUT:
        section, name = key.split(".")
        del config[section][name]


def resume(run, *more):
    settings = [f"--config.{key}={value}" for key, value in SETTINGS.items()]
    arguments = ["--config=configs/ah_vqvae.py:tiny", *settings, *more]
    return loop.train(tasks.make_task(tasks.load(arguments)), str(run))


@pytest.mark.parametrize("change", [lambda config: None, take_out])
def test_older_run_resumes_from_its_own_state(older, change, capsys):
    with Checkpoints(older, read_only=True) as checkpoints:
        _, before = checkpoints.restore_arrays()
    rewrite(older, change)
    assert resume(older) == 0
    assert "resuming from step 2" in capsys.readouterr().out
    with Checkpoints(older, read_only=True) as checkpoints:
        step, after = checkpoints.restore_arrays()
    assert (step, int(before["step"]), int(after["step"])) == (3, 2, 3)
    assert set(after["players"]) == {"vqvae", "discriminator"}
    chex.assert_trees_all_equal_structs(before["players"], after["players"])
    # One step of Adam moves a parameter by about its rate at most: it began where the run ended.
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(),
        before["players"]["vqvae"]["params"],
        after["players"]["vqvae"]["params"],
    )
    assert 0 < max(jax.tree.leaves(moved)) < 1e-2
    config = json.loads((older / "config.json").read_text())
    assert config["format"] == FORMAT
    assert set(TAKEN_OUT) <= set(flatten(config))


def test_older_run_evaluates_to_what_it_recorded(older):
    rewrite(older, take_out)
    recorded = [json.loads(line) for line in (older / "metrics.jsonl").read_text().splitlines()]
    trained = load_model(older)
    images, summary = open_test_images(trained, "", "test")
    images.source = Recoloured()
    evaluator = Evaluator(trained.model, make_mesh(1))
    measures = evaluator.evaluate(trained.variables, images, summary, 32).measures
    for name in ("n", "mae", "psnr", "active_codes"):
        assert measures[name] == pytest.approx(recorded[-1][f"eval/{name}"], rel=1e-3)


@pytest.mark.parametrize("use", [resume, load_model])
def test_key_that_is_unknown_is_named_in_one_line(older, use):
    rewrite(older, lambda config: config["model"].update(colour=1))
    with pytest.raises(InputError, match=r"^[^\n]*'model\.colour'[^\n]*$"):
        use(older)


@pytest.mark.parametrize("use", [resume, load_model])
def test_config_of_a_newer_format_is_refused(older, use):
    rewrite(older, lambda config: config.update(format=FORMAT + 1))
    with pytest.raises(InputError, match="newer than this avq"):
        use(older)
