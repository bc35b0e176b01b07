"""A run's images: damaged ones are survived, statistics are true, changed ones are refused."""

import dataclasses
import json
import logging
import math

import numpy as np
import pytest
from PIL import Image

from avq.data.dataset import ImageSet, open_dataset, pixel_statistics
from avq.data.images import UnreadableImage
from avq.data.names import hash_names, to_text
from avq.data.prepare import prepare
from avq.data.settings import Data
from avq.data.sources import open_source
from avq.data.split import OLDER, open_splits
from avq.errors import InputError

SIZE = 8


class Numbered:
    """Image i is filled with the value i; those in `broken` are unreadable."""

    def __init__(self, n, broken=(), augment=False):
        self.n, self.broken, self.augment = n, broken, augment

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index in self.broken:
            raise UnreadableImage("out of ink")
        return np.full((SIZE, SIZE, 3), index, np.uint8)

    def name(self, index):
        return f"image {index}"


def names_of(images):
    return [images.source.name(row) for row in range(len(images))]


def settings(path, **more):
    values = {"image_size": SIZE, "batch_size": 4, "split_seed": 1}
    return Data(path=str(path), **(values | more))


@pytest.fixture
def folder(tmp_path):
    """Ten images of noise, wide, tall and square, up to 16 pixels a side."""
    rng = np.random.default_rng(0)
    for i in range(10):
        side = rng.integers(8, 17, 2)
        pixels = rng.integers(0, 256, (*side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


def test_unreadable_images_are_named_skipped_and_counted(caplog):
    images = ImageSet(Numbered(5, broken=(1, 3)), max_rejected=0.5)
    with caplog.at_level(logging.WARNING, "avq"):
        read = [images[i] for i in (0, 1, 2, 3, 4, 1, 3)]
    assert [image is None for image in read] == [False, True, False, True, False, True, True]
    assert images.rejected == {"image 1": "out of ink", "image 3": "out of ink"}
    assert [record.getMessage() for record in caplog.records] == [
        "skipped unreadable image image 1 (out of ink); 1 so far",
        "skipped unreadable image image 3 (out of ink); 2 so far",
    ]


@pytest.mark.parametrize(("index", "nearest"), [(0, 2), (1, 2), (2, 2), (3, 2), (4, 2)])
def test_nearest_is_the_next_readable_image_round_the_end(index, nearest):
    images = ImageSet(Numbered(5, broken=(0, 1, 3, 4)), max_rejected=0.8)
    np.testing.assert_array_equal(images.nearest(index), nearest)


def test_more_unreadable_images_than_allowed_stop_with_the_list():
    images = ImageSet(Numbered(200, broken=(7, 8, 9)))  # 1% of them may be
    assert images[7] is None
    assert images[8] is None
    assert images[7] is None
    with pytest.raises(InputError) as error:
        images[9]
    message = str(error.value)
    assert message.startswith("3 of 200 images are unreadable, more than data.max_rejected=0.01")
    assert "image 7 (out of ink); image 8 (out of ink); image 9 (out of ink)" in message


def test_images_used_as_they_were_prepared_have_the_statistics_of_all_of_them(folder, tmp_path):
    about = prepare(str(folder), tmp_path / "prepared", size=SIZE, seed=1)
    summary = open_dataset(settings(tmp_path / "prepared")).summary
    assert summary.counts == {"train": 8, "test": 2}
    assert summary.pixel_mean == about["pixel_mean"]
    assert summary.pixel_variance == about["pixel_variance"]
    measured = open_dataset(settings(folder)).summary
    np.testing.assert_allclose(summary.pixel_mean, measured.pixel_mean, rtol=1e-9)
    np.testing.assert_allclose(summary.pixel_variance, measured.pixel_variance, rtol=1e-9)
    smaller = open_dataset(settings(tmp_path / "prepared", image_size=4)).summary
    assert smaller.pixel_variance != about["pixel_variance"]


def test_nothing_readable_is_refused_with_an_image_named():
    images = ImageSet(Numbered(3, broken=range(3)), max_rejected=1.0)
    with pytest.raises(InputError, match=r"none of the 3 images is readable, image 0 among them"):
        images.nearest(1)


def test_only_sources_that_ask_for_it_are_augmented(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 20, 3)).astype(np.uint8)
    for augment in (False, True):
        source = Numbered(1, augment=augment)
        monkeypatch.setattr(Numbered, "__getitem__", lambda self, index: pixels)
        views = {
            ImageSet(source).square(0, SIZE, np.random.default_rng(seed)).tobytes()
            for seed in range(8)
        }
        assert len(views) == (8 if augment else 1)


def test_pixel_statistics_are_those_of_all_pixels(folder):
    squares = []
    for i in range(10):
        with Image.open(folder / f"{i}.png") as image:
            w, h = image.size
            side = min(w, h)
            left, top = (w - side) // 2, (h - side) // 2
            crop = image.crop((left, top, left + side, top + side))
            squares.append(np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.LANCZOS)))
    pixels = np.stack(squares).astype(np.float64) / 127.5 - 1
    mean, variance = pixel_statistics(ImageSet(open_source(str(folder))), SIZE)
    np.testing.assert_allclose(mean, pixels.mean(), rtol=1e-9)
    np.testing.assert_allclose(variance, pixels.var(), rtol=1e-9)


def test_statistics_of_an_augmented_source_are_of_its_random_views_and_repeatable():
    class White(Numbered):
        def __getitem__(self, index):
            return np.full((SIZE, SIZE, 3), 255, np.uint8)

    images = ImageSet(White(3, augment=True))
    mean, variance = pixel_statistics(images, SIZE)
    # Half of the views are 1 throughout; a quarter are 1 in one channel and uniform in 0 to 1 in
    # two, a quarter the negative of that.
    np.testing.assert_allclose(mean, 1 / 2, atol=0.03)
    np.testing.assert_allclose(variance + mean**2, 1 / 2 + 1 / 2 * (1 / 3 + 2 / 3 / 3), atol=0.03)
    assert pixel_statistics(images, SIZE) == (mean, variance)


def test_unreadable_training_images_are_kept_in_the_summary(folder):
    for name in ("train/a.png", "train/b.png", "train/c.png", "test/d.png"):
        target = folder / "split" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / "0.png").read_bytes())
    (folder / "split" / "train" / "b.png").write_bytes(b"")
    dataset = open_dataset(settings(folder / "split", batch_size=2, max_rejected=0.4))
    assert dataset.summary.counts == {"train": 3, "test": 1}
    assert [entry["name"] for entry in dataset.summary.rejected] == ["train/b.png"]
    assert "0 bytes" in dataset.summary.rejected[0]["reason"]


def test_summary_says_how_many_images_how_bright_and_how_they_were_split(folder):
    data = settings(folder)
    dataset = open_dataset(data)
    mean, variance = pixel_statistics(dataset.train, SIZE)
    assert dataclasses.asdict(dataset.summary) == {
        "counts": {"train": 8, "test": 2},
        "pixel_mean": mean,
        "pixel_std": variance**0.5,
        "pixel_variance": variance,
        "size": SIZE,
        "seed": 1,
        "rejected": [],
        "split_rule": "hash of names, 80 % / 20 %",
        "unused": {},
        "name_hashes": {
            split: to_text(hash_names(names_of(images)))
            for split, images in (("train", dataset.train), ("test", dataset.test))
        },
    }


def test_known_summary_is_taken_as_it_is(folder):
    data = settings(folder)
    summary = open_dataset(data).summary
    known = json.loads(
        json.dumps(dataclasses.asdict(dataclasses.replace(summary, pixel_mean=0.125)))
    )
    again = open_dataset(data, known)
    assert dataclasses.asdict(again.summary) == known


def summary_of(data):
    """Content of a `dataset.json`."""
    return json.loads(json.dumps(dataclasses.asdict(open_dataset(data).summary)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        *(({"pixel_variance": v}, f"pixel_variance is {v}") for v in (math.nan, math.inf, 3)),
        ({"pixel_variance": -1.0}, "pixel_variance is not the square of pixel_std"),
        ({"pixel_mean": "x"}, "pixel_mean is 'x'"),
        ({"pixel_std": []}, r"pixel_std is \[\]"),
        ({"pixel_std": 0.9}, "pixel_variance is not the square of pixel_std"),
        *(({"size": v}, f"size is {v!r}") for v in (True, -1, None, "8")),
        ({"size": 10**12}, f"its size is {10**12}, that of the config {SIZE}"),
        ({"counts": {"train": 8}}, "counts are not those of train and test"),
        ({"counts": {"train": 8, "test": -2}}, "test is -2"),
        ({"counts": 3}, "counts are not those"),
        ({"counts": None}, "counts are not those"),
        ({"rejected": [{"name": "a"}]}, "rejected holds other keys"),
        ({"rejected": [3]}, "."),
        ({"split_rule": 1}, "split_rule is 1"),
        ({"name_hashes": {"train": "x"}}, "."),
        ({"name_hashes": {"train": ""}}, "name_hashes are not those of train and test"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
)
def test_damaged_summary_is_refused_with_what_is_wrong(change, problem, folder):
    known = summary_of(settings(folder)) | change
    message = rf"^the run's dataset\.json is damaged \([^\n]*{problem}[^\n]*\)\. Put back a copy\.$"
    with pytest.raises(InputError, match=message):
        open_dataset(settings(folder), known)


def test_images_that_came_went_or_were_renamed_are_refused_with_their_numbers(folder):
    data = settings(folder)
    known = summary_of(data)
    train, test = (
        names_of(images) for images in (open_dataset(data).train, open_dataset(data).test)
    )
    (folder / test[0]).rename(folder / "renamed.png")  # trains, by its hash
    (folder / train[0]).unlink()
    with pytest.raises(InputError) as error:
        open_dataset(data, known)
    message = str(error.value)
    assert "there were {'train': 8, 'test': 2} and there are {'train': 8, 'test': 1}" in message
    assert "train: 1 added, 1 removed; test: 0 added, 1 removed" in message
    assert "\n" not in message


def test_same_images_by_another_path_are_the_same(folder, tmp_path_factory, monkeypatch):
    known = summary_of(settings(folder))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "link").symlink_to(folder)
    assert open_dataset(settings(elsewhere / "link"), known).summary.counts == known["counts"]
    monkeypatch.chdir(folder.parent)
    assert open_dataset(settings(folder.name), known).summary.counts == known["counts"]


def test_older_run_keeps_its_split_and_is_guarded_by_names_from_then_on(folder):
    data = settings(folder)
    known = summary_of(data)
    for name in ("split_rule", "unused", "name_hashes"):
        del known[name]
    order = np.random.default_rng(data.split_seed).permutation(10)
    older = open_dataset(data, known)
    assert names_of(older.train) == [f"{row}.png" for row in sorted(order[:8])]
    assert names_of(older.test) == [f"{row}.png" for row in sorted(order[8:])]
    again = json.loads(json.dumps(dataclasses.asdict(older.summary)))
    assert again["split_rule"] == OLDER
    assert names_of(open_dataset(data, again).test) == names_of(older.test)
    (folder / "0.png").rename(folder / "00.png")
    with pytest.raises(InputError, match="1 added, 1 removed"):
        open_dataset(data, again)


def test_older_run_with_more_images_is_refused(folder):
    known = summary_of(settings(folder))
    for name in ("split_rule", "unused", "name_hashes"):
        del known[name]
    (folder / "a.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(InputError, match="the images changed since the run began"):
        open_dataset(settings(folder), known)


def test_what_is_not_used_is_logged_when_a_run_opens_its_data(folder, caplog):
    data = settings(folder)
    for i in range(3):
        (folder / f"{i}.HEIC").touch()
    (folder / "a.cr2").touch()
    with caplog.at_level(logging.WARNING, "avq"):
        summary = open_dataset(data).summary
    assert caplog.messages == ["data.path: not used: 3 .heic files, 1 .cr2 files"]
    assert summary.unused == {".heic files": 3, ".cr2 files": 1}


def test_set_of_test_images_alone_is_not_trained_on(folder):
    (folder / "test").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "test" / path.name)
    with pytest.raises(InputError, match=r"0 images to train on and 10 to test .*test/ alone"):
        open_dataset(settings(folder))


@pytest.mark.parametrize(
    ("top", "more", "warned"),
    [(4095, {}, True), (4095, {"white_level": 4095}, False), (65535, {}, False)],
)
def test_wide_images_that_come_out_dark_are_warned_of(tmp_path, caplog, top, more, warned):
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, top, (SIZE, SIZE), np.uint16, endpoint=True)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    with caplog.at_level(logging.WARNING, "avq"):
        summary = open_dataset(settings(tmp_path, **more)).summary
    assert [("come out dark" in m, "data.white_level" in m) for m in caplog.messages] == (
        [(True, True)] if warned else []
    )
    assert (summary.pixel_mean < -0.9) == warned


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": 9}, r"8 readable training images are fewer than data\.batch_size=9"),
        ({"split": 1.0}, r"10 images to train on and 0 to test on are too few"),
        ({"split": 0.0}, r"0 images to train on and 10 to test on are too few"),
    ],
)
def test_too_few_images_are_refused(folder, more, message):
    with pytest.raises(InputError, match=message):
        open_dataset(settings(folder, **more))


def test_unreadable_images_do_not_fill_a_batch(folder):
    path = folder / open_dataset(settings(folder)).train.source.name(2)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"7 readable training images are fewer"):
        open_dataset(settings(folder, batch_size=8, max_rejected=0.2))


def test_missing_path_names_the_variant_that_needs_none():
    with pytest.raises(InputError, match=r"data\.path is not set.*:tiny"):
        open_dataset(settings(""))


def test_photographs_may_be_fewer_than_a_batch():
    sources = open_splits(settings("photographs"))
    assert sources.train.augment
    assert len(sources.train) < 16
    assert len(sources.test) == 512
