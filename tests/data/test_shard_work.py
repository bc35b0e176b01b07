"""Prepared sets by several workers: the bytes of one call, whatever befalls a worker; refusals."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from avq.data import description
from avq.data import prepare as module
from avq.data.prepare import prepare
from avq.data.shard_folder import log
from avq.data.sources import open_source
from avq.errors import InputError
from avq.lock import locked
from avq.workers import Worker

SIZE = 8
SHARDS = [4, 4, 4, 4, 1, 4, 2]  # images in each


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty-three images of noise, split by their names into 17 and 6."""
    path = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for i in range(23):
        pixels = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02d}.png")
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "IMAGES_PER_SHARD", 4)


@pytest.fixture
def filled(folder, tmp_path):
    """Fills a folder, by default `set`, as one call, a worker or the finish."""

    def call(name="set", *, path=folder, size=SIZE, **options):
        return prepare(str(path), tmp_path / name, size=size, **options)

    return call


@pytest.fixture
def target(tmp_path):
    return tmp_path / "set"


def content(folder):
    """Bytes of all files by name; a lock's say who held it, and are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_any_workers_in_any_order_and_twice_end_in_the_bytes_of_one_call(filled, tmp_path):
    about = filled("whole")
    assert [*about["shards"]["train"], *about["shards"]["test"]] == SHARDS
    for count, order in ((1, [0]), (3, [2, 0, 2, 1]), (8, [7, 3, 0, 1, 6, 5, 3, 2, 4])):
        target = tmp_path / str(count)
        for index in order:
            assert not (target / "dataset.json").exists()
            assert filled(str(count), worker=Worker(index, count)) == {"rejected": []}
        assert filled(str(count), finish=True) == about
        assert content(target) == content(tmp_path / "whole")
        assert not (target / "unfinished").exists()


def test_workers_at_the_same_time_do_not_disturb_one_another(filled, target, tmp_path):
    filled("whole")
    workers = [Worker(*numbers) for numbers in ((0, 2), (1, 2), (1, 2), (0, 3), (0, 1), (6, 8))]
    together = threading.Barrier(len(workers))

    def work(worker):
        together.wait()
        filled(worker=worker)

    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(work, workers))
    filled(finish=True)
    assert content(target) == content(tmp_path / "whole")


def test_other_number_of_workers_takes_what_is_left(filled, target, tmp_path):
    filled("whole")
    filled(worker=Worker(1, 3))
    done: list[int] = []
    filled(worker=Worker(0, 1), on_images=done.append)
    # Its shards 1 and 4, of four images and one, are there: each is reported at once.
    assert done == [1, 1, 1, 1, 4, *[1] * 8, 1, *[1] * 6]
    filled(finish=True)
    assert content(target) == content(tmp_path / "whole")


def test_one_call_takes_over_from_workers(filled, target, tmp_path):
    filled("whole")
    filled(worker=Worker(1, 3))
    filled()
    assert content(target) == content(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from avq.data import prepare
from avq.workers import Worker

prepare.IMAGES_PER_SHARD = 4
done = []

def on_images(count):
    done.append(count)
    if len(done) == 6:
        os.kill(os.getpid(), signal.SIGKILL)

worker = Worker(0, 3)
prepare.prepare(sys.argv[1], Path(sys.argv[2]), size=8, worker=worker, on_images=on_images)
"""


def test_killed_worker_is_started_again_and_leaves_nothing_behind(filled, folder, target, tmp_path):
    filled("whole")
    command = [sys.executable, "-c", KILLED, str(folder), str(target)]
    environ = os.environ | {"JAX_PLATFORMS": "cpu"}
    assert subprocess.run(command, env=environ).returncode == -signal.SIGKILL
    own = target / "unfinished" / "worker-0-of-3"
    assert any(path.name.startswith("part") for path in own.iterdir())  # in its second shard
    with pytest.raises(InputError, match=r"6 of 7 shards are missing: train-00001-of-00005\.arr"):
        filled(finish=True)
    for index in range(3):
        filled(worker=Worker(index, 3))
    assert [path.name for path in own.iterdir()] == ["lock"]
    filled(finish=True)
    assert content(target) == content(tmp_path / "whole")


def test_worker_waits_for_another_of_its_number_and_says_so(filled, target, tmp_path, monkeypatch):
    filled("whole")
    filled(worker=Worker(1, 2))
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(log, "warning", lambda form, *values: said.put(form % values))
    with ThreadPoolExecutor(1) as pool:
        with locked(target / "unfinished" / "worker-0-of-2"):
            waiting = pool.submit(filled, worker=Worker(0, 2))
            line = said.get(timeout=60)
            assert re.fullmatch(r"waiting: .*worker-0-of-2' is in use by process \d+ on \S+", line)
            assert not waiting.done()
        waiting.result()
    filled(finish=True)
    assert content(target) == content(tmp_path / "whole")


@pytest.mark.parametrize("options", [{}, {"finish": True}])
def test_nobody_finishes_while_a_worker_is_at_work(filled, target, options):
    for index in range(2):
        filled(worker=Worker(index, 2))
    before = content(target)
    with (
        locked(target / "unfinished", shared=True),
        pytest.raises(InputError, match="is in use by process"),
    ):
        filled(**options)
    assert content(target) == before


def test_finish_names_what_is_missing_and_writes_nothing(filled, target):
    with pytest.raises(InputError, match=r"7 of 7 shards .*: train-00000.*00002.*, \.\.\."):
        filled(finish=True)
    assert not target.exists()
    filled(worker=Worker(0, 3))
    filled(worker=Worker(2, 3))
    before = content(target)
    message = (
        r"^2 of 7 shards are missing: train-00001-of-00005\.array_record, "
        r"train-00004-of-00005\.array_record\. Run all workers again; .*end at once\.$"
    )
    with pytest.raises(InputError, match=message):
        filled(finish=True)
    assert content(target) == before
    with pytest.raises(InputError, match="After workers, run it with --finish"):
        open_source(str(target))


@pytest.mark.parametrize("left", [(), ("train-00000-of-00005.array_record.json",)])
def test_finished_folder_is_left_alone_by_a_late_worker_and_a_second_finish(filled, target, left):
    filled(worker=Worker(0, 1))
    about = filled(finish=True)
    before = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    for name in left:  # by one killed while it removed the notes
        (target / "unfinished").mkdir()
        (target / "unfinished" / name).write_text("{}")
    assert filled(finish=True) == filled(worker=Worker(0, 1)) == filled() == about
    assert before == {path: path.stat().st_mtime_ns for path in target.iterdir()}


def test_finish_is_repeated_after_one_that_was_killed_or_had_a_full_disk(
    filled, target, tmp_path, monkeypatch
):
    filled("whole")
    filled(worker=Worker(0, 1))
    before = content(target)

    def full(*sides, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(description, "near_duplicates", full)
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
            filled(finish=True)
    assert content(target) == before
    left = target / "unfinished" / "scratch"
    left.mkdir()
    for name in ("train.hashes", "left.runs"):
        (left / name).write_bytes(b"of one that was killed")
    filled(finish=True)
    assert content(target) == content(tmp_path / "whole")
    assert not (target / "unfinished").exists()


def test_worker_of_other_settings_or_images_is_refused(filled, folder, target, tmp_path):
    filled(worker=Worker(0, 3))
    before = content(target)
    for options in ({"worker": Worker(1, 3)}, {"finish": True}, {}):
        with pytest.raises(InputError, match="was begun with another size and seed"):
            filled(size=16, seed=3, **options)
    more = tmp_path / "more"
    more.mkdir()
    for path in folder.iterdir():
        (more / path.name).write_bytes(path.read_bytes())
    (more / "new.png").write_bytes((folder / "00.png").read_bytes())
    with pytest.raises(InputError, match="was begun with another source"):
        filled(path=more, worker=Worker(1, 3))
    assert content(target) == before


def test_of_two_workers_of_other_sizes_at_once_one_is_refused(filled, target):
    together = threading.Barrier(2)

    def work(size):
        together.wait()
        try:
            filled(size=size, worker=Worker(0, 1))
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        refused = sorted(pool.map(work, (4, SIZE)))
    assert refused[0] == ""
    assert "was begun with another size" in refused[1]
    files = [path for path in target.iterdir() if path.suffix == ".array_record"]
    assert len(files) == len(SHARDS)


def shorten(folder):
    file = folder / "train-00001-of-00005.array_record"
    file.write_bytes((folder / "train-00004-of-00005.array_record").read_bytes())


def cut(folder):
    file = folder / "train-00001-of-00005.array_record"
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, r"train-00001.* has 1 images, where 4 were written\. Remove it"),
        (cut, r"train-00001.* is no whole ArrayRecord file .*Remove it"),
    ],
)
def test_shard_of_another_size_is_refused_and_written_again_once_it_is_removed(
    filled, target, tmp_path, damage, message
):
    filled("whole")
    filled(worker=Worker(0, 1))
    damage(target)
    with pytest.raises(InputError, match=message):
        filled(finish=True)
    assert not (target / "dataset.json").exists()
    (target / "train-00001-of-00005.array_record").unlink()
    with pytest.raises(InputError, match="1 of 7 shards are missing: train-00001"):
        filled(finish=True)
    filled(worker=Worker(0, 1))
    filled(finish=True)
    assert content(target) == content(tmp_path / "whole")


def test_unreadable_images_of_all_workers_are_counted_together(filled, folder, target, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in folder.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    for name in ("00.png", "22.png"):
        (images / name).write_bytes(b"words")
    lists = [filled(path=images, worker=Worker(i, 8), max_rejected=0.05) for i in range(8)]
    names = sorted(entry["name"] for about in lists for entry in about["rejected"])
    assert names == ["00.png", "22.png"]
    with pytest.raises(InputError, match="2 of 23 images are unreadable"):
        filled(path=images, finish=True, max_rejected=0.05)
    filled(path=images, finish=True, max_rejected=0.1)
    filled("whole", path=images, max_rejected=0.1)
    assert content(target) == content(tmp_path / "whole")
