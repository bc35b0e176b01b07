"""Streams: images and their order in batches."""

import chex
import numpy as np
import pytest

from avq.data import pipeline
from avq.data.dataset import ImageSet
from avq.data.images import UnreadableImage
from avq.data.pipeline import eval_batches, in_shards, prefetch, train_batches
from avq.data.settings import Data
from avq.data.views import Degradation

SIZE = 4


class Numbered:
    """Image i has columns i, i + 100, i + 100, i + 100; those in `broken` are unreadable."""

    augment = False

    def __init__(self, n, broken=()):
        self.n, self.broken = n, broken

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index in self.broken:
            raise UnreadableImage("out of ink")
        image = np.full((SIZE, SIZE, 3), index + 100, np.uint8)
        image[:, 0] = index
        return image

    def name(self, index):
        return f"image {index}"


class Augmented(Numbered):
    """Noise, to be cropped and recoloured at random."""

    augment = True

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def batches_of(source, *, seed=0, batch_size=4, host=0, hosts=1, min_crop=1.0, flip=True):
    data = Data(image_size=SIZE, batch_size=batch_size, min_crop=min_crop, flip=flip)
    return train_batches(ImageSet(source, 1.0), data, seed=seed, host=host, hosts=hosts)


def numbers(batch):
    """Which images a batch holds; whether each is mirrored."""
    return numbers_of(batch["image"])


def numbers_of(images):
    edges = np.stack([images[:, 0, 0, 0], images[:, 0, -1, 0]])
    return edges.min(0), edges[1] < edges[0]


def take(stream, n):
    try:
        return [next(stream) for _ in range(n)]
    finally:
        stream.close()


@pytest.mark.parametrize("source", [Numbered(10), Augmented(10)])
@pytest.mark.parametrize("start", [0, 3, 7])
def test_batch_of_a_step_is_the_same_by_index_and_from_any_start(source, start):
    by_index = [batches_of(source)[step] for step in range(start, 9)]
    from_zero = take(prefetch(batches_of(source), 0), 9)[start:]
    from_start = take(prefetch(batches_of(source), start), 9 - start)
    assert all(batch.keys() == {"image"} for batch in by_index)
    chex.assert_shape([batch["image"] for batch in by_index], (4, SIZE, SIZE, 3))
    chex.assert_trees_all_equal(by_index, from_zero, from_start)


def test_another_seed_gives_another_stream():
    first, other = (numbers(batches_of(Numbered(50), seed=seed)[0])[0] for seed in (0, 1))
    assert not np.array_equal(first, other)


def test_every_epoch_holds_every_image_once_in_another_order():
    batches = batches_of(Numbered(10), batch_size=5)
    epochs = [
        np.concatenate([numbers(batches[2 * epoch + half])[0] for half in range(2)])
        for epoch in range(4)
    ]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batch_that_epochs_share_goes_on_with_the_next_epoch():
    stream = np.concatenate(
        [numbers(batches_of(Numbered(10), batch_size=4)[s])[0] for s in range(5)]
    )
    np.testing.assert_array_equal(np.sort(stream[:10]), np.arange(10))
    np.testing.assert_array_equal(np.sort(stream[10:]), np.arange(10))


def test_images_are_mirrored_half_of_the_time_anew_in_each_epoch():
    batches = batches_of(Numbered(10), batch_size=10)
    flips = np.zeros((40, 10), bool)
    for epoch in range(40):
        images, mirrored = numbers(batches[epoch])
        flips[epoch, images] = mirrored
    assert 0.4 < flips.mean() < 0.6
    assert flips.any(0).all()
    assert not flips.all(0).any()


def test_augmented_images_differ_from_epoch_to_epoch():
    batches = batches_of(Augmented(2), batch_size=2)
    assert len({row.tobytes() for step in range(5) for row in batches[step]["image"]}) == 10


def test_unreadable_training_images_are_replaced_by_the_next_ones():
    images, _ = numbers(batches_of(Numbered(10, broken=(2, 9)), batch_size=10)[0])
    np.testing.assert_array_equal(np.sort(images), [0, 0, 1, 3, 3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize(
    ("n", "broken", "sizes"),
    [
        (10, (), [4, 4, 2]),
        (8, (), [4, 4]),
        (3, (), [3]),
        (10, (0, 5, 9), [3, 3, 1]),
        (2, (0, 1), [0]),
    ],
)
def test_evaluation_holds_every_readable_image_once_in_order(n, broken, sizes):
    source = ImageSet(Numbered(n, broken), 1.0)
    batches = list(eval_batches(source, image_size=SIZE, batch_size=4))
    for batch, mask in batches:
        assert batch.keys() == {"image"}
        chex.assert_shape(batch["image"], (4, SIZE, SIZE, 3))
        assert (batch["image"].dtype, mask.dtype) == (np.dtype(np.uint8), np.dtype(bool))
    seen = [numbers_of(batch["image"][mask])[0] for batch, mask in batches]
    assert [len(rows) for rows in seen] == sizes
    expected = [i for i in range(n) if i not in broken]
    np.testing.assert_array_equal(np.concatenate([[], *seen]), expected)
    assert not any(numbers(batch)[1].any() for batch, _ in batches)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_feed_the_parts_of_one_and_the_same_batch(hosts):
    whole = batches_of(Augmented(10), batch_size=8)
    parts = [batches_of(Augmented(10), batch_size=8, host=h, hosts=hosts) for h in range(hosts)]
    for step in range(4):
        images = [part[step]["image"] for part in parts]
        chex.assert_shape(images, (8 // hosts, SIZE, SIZE, 3))
        np.testing.assert_array_equal(np.concatenate(images), whole[step]["image"])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_evaluate_every_image_once_in_as_many_batches(hosts):
    source = ImageSet(Numbered(11, broken=(5,)), 1.0)
    shared = {"image_size": SIZE, "batch_size": 4, "hosts": hosts}
    streams = [list(eval_batches(source, **shared, host=host)) for host in range(hosts)]
    assert [len(stream) for stream in streams] == [3] * hosts
    batches = [batch["image"][mask] for stream in streams for batch, mask in stream]
    seen = np.concatenate([numbers_of(images)[0] for images in batches])
    assert sorted(seen) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_worker_processes_do_not_change_the_stream(workers):
    expected = take(prefetch(batches_of(Augmented(10)), 2), 6)
    chex.assert_trees_all_equal(take(prefetch(batches_of(Augmented(10)), 2, workers), 6), expected)


def test_flips_and_crops_are_choices():
    plain = batches_of(Numbered(10), flip=False, batch_size=10)
    assert not any(numbers(plain[step])[1].any() for step in range(5))
    source = Augmented(3)
    source.augment = False
    centres, cropped = (batches_of(source, min_crop=m, flip=False) for m in (1.0, 0.5))
    assert len({row.tobytes() for step in range(6) for row in centres[step]["image"]}) == 3
    assert len({row.tobytes() for step in range(6) for row in cropped[step]["image"]}) == 24


def test_padded_rows_stand_behind_the_real_ones():
    *_, (_, mask) = eval_batches(ImageSet(Numbered(6)), image_size=SIZE, batch_size=4)
    np.testing.assert_array_equal(mask, [True, True, False, False])


def test_evaluation_of_some_rows_sees_these_alone():
    source = ImageSet(Numbered(20, broken={6}), max_rejected=0.1)
    batches = list(eval_batches(source, image_size=SIZE, batch_size=4, rows=range(5, 11)))
    images = np.concatenate([batch["image"] for batch, _ in batches])
    mask = np.concatenate([mask for _, mask in batches])
    assert images[mask][:, 0, 0, 0].tolist() == [5, 7, 8, 9, 10]
    assert mask.tolist() == [True, False, True, True, True, True, False, False]


@pytest.mark.parametrize(("batch_size", "sizes"), [(2, [6, 6, 5]), (4, [8, 8, 1]), (32, [17])])
def test_shards_of_an_evaluation_are_whole_batches_of_the_same_stream(
    monkeypatch, batch_size, sizes
):
    monkeypatch.setattr(pipeline, "IMAGES_PER_SHARD", 5)
    options = {"image_size": SIZE, "batch_size": batch_size}
    source = ImageSet(Numbered(17, broken={6}), max_rejected=0.1)
    batches = eval_batches(source, **options)
    shards = [list(each) for each in in_shards(batches, range(17), batch_size)]
    flat = [batch for batches in shards for batch in batches]
    assert [first for first, *_ in flat] == list(range(0, 17, batch_size))
    expected = list(eval_batches(source, **options))
    chex.assert_trees_all_equal([tuple(batch) for _, *batch in flat], expected)
    assert [min(len(s) * batch_size, 17 - s[0][0]) for s in shards] == sizes
    start = shards[-1][0][0]
    last = range(start, 17)
    (alone,) = in_shards(eval_batches(source, **options, rows=last), last, batch_size)
    chex.assert_trees_all_equal(list(alone), shards[-1])


def test_degraded_batches_have_the_clean_ones_as_targets_whatever_the_workers():
    data = Data(image_size=8, batch_size=4)
    clean, noisy = (
        train_batches(ImageSet(Augmented(10)), data, seed=0, degradation=degradation)
        for degradation in (Degradation(), Degradation(noise=5.0))
    )
    for step in range(3):
        np.testing.assert_array_equal(noisy[step]["target"], clean[step]["image"])
    seen = [noisy[step]["image"] for step in range(6)]
    assert len({row.tobytes() for images in seen for row in images}) == 24
    chex.assert_trees_all_equal(
        take(prefetch(noisy, 0), 3),
        take(prefetch(noisy, 0, workers=2), 3),
        [noisy[step] for step in range(3)],
    )


def test_degraded_evaluation_is_the_same_in_batches_of_any_size_and_on_any_host():
    images, degradation = ImageSet(Numbered(9, broken=(5,)), 1.0), Degradation(noise=5.0)

    def whole(key, **options):
        batches = eval_batches(images, image_size=SIZE, degradation=degradation, **options)
        return np.concatenate([batch[key][mask] for batch, mask in batches])

    expected = whole("image", batch_size=9)
    clean = [image for row in range(9) if (image := images[row]) is not None]
    np.testing.assert_array_equal(whole("target", batch_size=4), clean)
    np.testing.assert_array_equal(whole("image", batch_size=4), expected)
    halves = [whole("image", batch_size=6, host=host, hosts=2) for host in (0, 1)]
    order = np.argsort([0, 1, 2, 6, 7, 8, 3, 4])
    np.testing.assert_array_equal(np.concatenate(halves)[order], expected)
    assert len({image.tobytes() for image in expected - np.stack(clean)}) == 8  # noises differ
