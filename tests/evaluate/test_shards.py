"""An evaluation by several workers: the same values, to the bit, as by one call."""

import json
import shutil
from pathlib import Path

import chex
import pytest

from avq.data import pipeline
from avq.data.dataset import ImageSet
from avq.data.sources import open_source
from avq.errors import InputError
from avq.evaluate.evaluation import open_test_images
from avq.evaluate.measuring import Measuring
from avq.evaluate.metrics.symmetry import ALIGNED, EyeColour
from avq.evaluate.network_metrics import InceptionDistances, PerceptualDistance
from avq.evaluate.shards import MeasuredShards
from avq.workers import Worker

EYES = {"eye_colour_celeba": EyeColour(ALIGNED["celeba"])}
WHOLE = "whole"


@pytest.fixture
def measuring(tokenizer, image_folder, small_networks, monkeypatch):
    """Of the twenty images, in shards of eight."""
    monkeypatch.setattr(pipeline, "IMAGES_PER_SHARD", 8)

    def make(folder=image_folder, batch_size=8, metrics=EYES, max_rejected=0.2):
        _, summary = open_test_images(tokenizer.trained, str(image_folder), "all")
        images = ImageSet(open_source(str(folder)), max_rejected)
        networks = [InceptionDistances(Path("a"), 20), PerceptualDistance([Path("b")], 16)]
        about = str(folder), "all", batch_size, metrics, networks
        return Measuring(images, summary, *about)

    return make


@pytest.fixture(scope="module")
def made():
    """What was compiled, by options."""
    return {}


@pytest.fixture
def by(measuring, tokenizer, made, tmp_path):
    """Does a worker's share, finishes, or measures all in one call."""

    def on(options):
        if str(options) not in made:
            made[str(options)] = one = measuring(**options)
            run = one.of(tokenizer.trained)
            one.of = lambda trained: run
        return made[str(options)]

    def call(worker=None, name="eval.json", on_images=lambda done: None, **options):
        if worker == WHOLE:
            return on(options).measure(tokenizer.trained)
        shards = MeasuredShards(tmp_path / name, on(options), [tokenizer.trained], on_images)
        about = shards.fill(worker, worker is None, lambda total: None, on_images)
        return about["rejected"] if worker else shards.measured(about)[0]

    return call


def content(folder):
    """Bytes of all files by name; a lock's say who held it, and are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_any_workers_in_any_order_and_twice_give_the_values_of_one_call(by):
    done: list[int] = []
    for count, order in ((1, [0]), (5, [2, 0, 2, 3, 4, 1])):
        for index in order:
            assert by(Worker(index, count), f"of {count}", done.append) == []
        measured, again = by(name=f"of {count}"), by(name=f"of {count}")
        whole = by(WHOLE)
        assert {"fid", "kid", "lpips_vgg", "eye_colour"} < measured.values.keys()
        assert measured.values == again.values == whole.values
        assert json.dumps(measured.values) == json.dumps(whole.values)
        assert measured.meanings == whole.meanings
        chex.assert_trees_all_equal(measured.results.per_image, whole.results.per_image)
        chex.assert_trees_all_equal(measured.results.fingerprints, whole.results.fingerprints)
        chex.assert_trees_all_equal(measured.results.rows, whole.results.rows)
    assert sum(done) == 2 * (2 * 20 + 4)  # two passes; a worker of five came twice


def test_worker_that_dies_is_started_again_and_finish_names_what_is_missing(by, tmp_path):
    def die(done):
        raise KeyboardInterrupt

    by(Worker(1, 3))
    with pytest.raises(KeyboardInterrupt):
        by(Worker(0, 3), on_images=die)
    before = content(tmp_path)
    missing = "2 of 3 shards are missing: all-00000-of-00003.* all-00002-of-00003"
    with pytest.raises(InputError, match=missing):
        by()
    assert content(tmp_path) == before
    by(Worker(0, 2))
    assert by().values == by(WHOLE).values


def test_worker_of_other_settings_is_refused_and_nothing_is_overwritten(by, image_folder, tmp_path):
    by(Worker(1, 3))
    before = content(tmp_path)
    more = shutil.copytree(image_folder, tmp_path.with_name(f"{tmp_path.name} more"))
    shutil.copy(more / "train" / "00.png", more / "new.png")
    other = {"eye_colour_celeba_hq": EyeColour(ALIGNED["celeba_hq"])}
    for options, named in (
        ({"batch_size": 16}, "batch_size"),
        ({"metrics": other}, "metric"),
        ({"folder": more}, "source"),
    ):
        for worker in (Worker(0, 3), None):
            with pytest.raises(InputError, match=f"was begun with another {named}\\. Give"):
                by(worker, **options)
    assert content(tmp_path) == before


def test_unreadable_images_are_those_of_one_call(by, image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "images")
    for number in range(8, 16):  # the last shard, and half of another
        (images / "train" / f"{number:02d}.png").write_bytes(b"words")
    options = {"folder": images, "max_rejected": 0.5}
    lists = [by(Worker(index, 2), **options) for index in (1, 0)]
    assert [len(rejected) for rejected in lists] == [4, 4]
    with pytest.raises(InputError, match="8 of 20 images are unreadable"):
        by(folder=images, max_rejected=0.3)
    measured = by(**options)
    assert measured.values["n"] == 12
    assert measured.values["trained_on"] == 8
    assert measured.values == by(WHOLE, **options).values


def test_damaged_shard_is_refused(by, tmp_path):
    by(Worker(0, 1))
    file = tmp_path / "eval.json.shards" / "all-00001-of-00003.array_record"
    whole = file.read_bytes()
    at = whole.index(b"per_image/psnr")
    file.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    with pytest.raises(InputError, match=r"00001-of-00003.* is damaged .*run all workers again"):
        by()
