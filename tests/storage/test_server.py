"""The same against a server of S3's protocol; skipped where moto or s3fs is not installed."""

import chex
import numpy as np
import pytest
from PIL import Image

from avq import tasks
from avq.checkpoint import Checkpoints
from avq.data.prepare import prepare
from avq.data.sources import open_source
from avq.errors import InputError
from avq.storage.copies import local
from avq.storage.objects import RemotePath
from avq.train import loop
from benchmarks.reliability.storage import BUCKET, ENVIRONMENT, moto, server
from tests.train.test_stranger import Regression

MOTO = moto()
REMOTE = RemotePath("s3", "bucket")
SIZE = 8

pytestmark = pytest.mark.skipif(MOTO is None, reason="moto_server is not installed")


@pytest.fixture(scope="module", autouse=True)
def s3(tmp_path_factory):
    """A server with an empty bucket."""
    fsspec = pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ENVIRONMENT:
            patch.setenv(name, "")  # restored at the end
        with server(str(MOTO)):
            yield
        fsspec.S3FileSystem.clear_instance_cache()


def test_a_set_is_that_of_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(9):
        pixels = rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{i}.png")
    for target in (tmp_path / "set", REMOTE / "set", REMOTE / "set"):
        prepare(str(tmp_path / "images"), target, size=SIZE)
    here, there = open_source(str(tmp_path / "set")), open_source(f"{BUCKET}/set")
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert set((REMOTE / "set").files()) == names
    for row in range(9):
        np.testing.assert_array_equal(here[row], there[row])


def test_a_killed_run_resumes_to_the_same_bits(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(tasks.TASKS, "regression", Regression)
    config = tasks.defaults("regression")
    config.update({"train": {"steps": 12, "eval_every": 12}, "checkpoint": {"every": 4}})
    ends = []
    for run in (str(tmp_path / "run"), f"{BUCKET}/run", f"{BUCKET}/run"):
        assert loop.train(tasks.make_task(config), run) == 0
        with Checkpoints(local(run), read_only=True) as checkpoints:
            ends.append(checkpoints.restore_arrays())
        if "://" in run:
            (REMOTE / "run/checkpoints/12/whole.json").unlink()
    assert "resuming from step 8" in capsys.readouterr().out
    chex.assert_trees_all_equal(*ends)


@pytest.mark.parametrize("action", ["files", "read_text", "is_file", "create"])
def test_a_bucket_that_does_not_exist_is_named(action):
    with pytest.raises(InputError, match="there is no bucket 'other'") as caught:
        getattr(RemotePath("s3", "other/set"), action)(*(["x"] if action == "create" else []))
    assert "\n" not in str(caught.value)


def test_an_object_is_created_once():
    assert (REMOTE / "object").create("first")
    assert not (REMOTE / "object").create("second")
    assert (REMOTE / "object").read_text() == "first"
