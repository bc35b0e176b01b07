"""Runs on object storage: what is put and fetched, and that nothing half-written counts."""

import json

import jax
import pytest
from jax.experimental import multihost_utils

from avq.errors import InputError
from avq.storage import runs
from avq.storage.copies import complete, local, pull, put_back, steps
from avq.storage.objects import RemotePath, StorageError
from avq.storage.runs import NotPut, run_folder


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def checkpoint(folder, step):
    write(folder / f"checkpoints/{step}", metrics__metrics=f"{step}", state__d__x=f"state {step}")


@pytest.fixture
def run(bucket):
    """A run at work, and its place."""
    with run_folder("memory://bucket/run") as place, place.held():
        yield place, bucket / "run"


def test_what_is_put_is_fetched_without_arrays_until_they_are_asked_for(run, tmp_path):
    place, remote = run
    write(place.folder, metrics="line\n", samples__1="picture", lock="process", half__new="")
    (place.folder / "half" / "new").rename(place.folder / "half.new")
    checkpoint(place.folder, 10)
    (place.folder / "checkpoints/20.orbax-checkpoint-tmp").mkdir()
    write(place.folder, **{"checkpoints__20.orbax-checkpoint-tmp__state": "unfinished"})
    place.put()
    mark = json.loads((remote / "checkpoints/10/whole.json").read_text())
    assert set(mark) == {"metrics/metrics", "state/d/x"}
    names = set(remote.files()) - {"owner.json"}
    assert names == {
        "metrics",
        "samples/1",
        "checkpoints/10/metrics/metrics",
        "checkpoints/10/state/d/x",
        "checkpoints/10/whole.json",
    }
    copy = local("memory://bucket/run")
    assert (copy / "metrics").read_text() == "line\n"
    assert (copy / "checkpoints/10/metrics/metrics").read_text() == "10"
    assert not (copy / "samples").exists()
    assert not (copy / "checkpoints/10/state").exists()
    complete(copy, 10)
    assert (copy / "checkpoints/10/state/d/x").read_text() == "state 10"


def test_a_local_run_is_used_where_it_is(tmp_path):
    with run_folder(str(tmp_path)) as place, place.held():
        assert place.folder == tmp_path
        place.require_put()
        complete(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_copy_follows_the_run(run):
    place, _ = run
    write(place.folder, metrics="one\n", removed="")
    checkpoint(place.folder, 10)
    place.put()
    copy = local("memory://bucket/run")
    write(place.folder, metrics="one\ntwo\n")
    (place.folder / "removed").unlink()
    checkpoint(place.folder, 20)
    (place.folder / "checkpoints/10").rename(place.folder / "gone")
    place.put()
    assert local("memory://bucket/run") == copy
    assert steps(copy) == {20}
    assert (copy / "metrics").read_text() == "one\ntwo\n"
    assert not (copy / "removed").exists()


def test_a_checkpoint_counts_once_all_of_it_is_there(run, tmp_path, monkeypatch):
    place, remote = run
    put = RemotePath.put

    def fail_at_arrays(self, files):
        put(self, {name: file for name, file in files.items() if "state" not in name})
        if any("state" in name for name in files):
            raise StorageError("the server is gone")

    checkpoint(place.folder, 10)
    with monkeypatch.context() as patch:
        patch.setattr(RemotePath, "put", fail_at_arrays)
        with pytest.raises(NotPut, match="the server is gone"):
            place.put()
    assert "checkpoints/10/metrics/metrics" in remote.files()
    assert pull(remote, tmp_path) == set()
    assert steps(tmp_path) == set()
    place.put()
    assert pull(remote, tmp_path) == {10}


def test_what_was_put_of_a_checkpoint_when_killed_is_removed(bucket):
    (bucket / "run/checkpoints/10/state/d/x").write_text("part")
    (bucket / "run/checkpoints/20/whole.json").write_text('["state"]')
    (bucket / "run/checkpoints/20/state").write_text("all")
    with run_folder("memory://bucket/run") as place, place.held():
        assert steps(place.folder) == {20}
        assert "checkpoints/10/state/d/x" not in (bucket / "run").files()
    assert {"checkpoints/20/state", "checkpoints/20/whole.json"} <= set((bucket / "run").files())


def test_the_mark_comes_after_and_goes_before_the_rest(run, monkeypatch):
    place, remote = run
    events = []
    for name in ("put", "write_text", "unlink", "remove"):
        method = getattr(RemotePath, name)

        def noted(self, *arguments, name=name, method=method):
            events.append((name, str(self).removeprefix(str(remote)), *arguments))
            return method(self, *arguments)

        monkeypatch.setattr(RemotePath, name, noted)
    write(place.folder, metrics="line\n")
    checkpoint(place.folder, 10)
    place.put()
    (place.folder / "checkpoints/10").rename(place.folder / "gone")
    place.put()
    kinds = [event[:2] for event in events if "checkpoints" in event[1] or event[0] == "put"]
    assert kinds[:3] == [
        ("put", ""),  # the records of the checkpoint's step are first
        ("put", "/checkpoints/10"),
        ("write_text", "/checkpoints/10/whole.json"),
    ]
    assert kinds[-2:] == [("unlink", "/checkpoints/10/whole.json"), ("remove", "/checkpoints/10")]


def test_a_checkpoint_is_not_put_before_the_records_of_its_step(run, monkeypatch):
    place, remote = run
    put = RemotePath.put

    def put_while_training_goes_on(self, files):
        put(self, files)
        if "metrics" in files and not (place.folder / "checkpoints").exists():
            write(place.folder, metrics="one\ntwo\n")
            checkpoint(place.folder, 10)

    write(place.folder, metrics="one\n")
    monkeypatch.setattr(RemotePath, "put", put_while_training_goes_on)
    place.put()
    assert not (remote / "checkpoints/10/whole.json").is_file()
    place.put()
    assert (remote / "checkpoints/10/whole.json").is_file()
    assert (remote / "metrics").read_text() == "one\ntwo\n"


def test_a_file_that_is_removed_while_it_is_put_stops_nothing(run, monkeypatch):
    place, remote = run
    put = RemotePath.put

    def put_late(self, files):
        (place.folder / "note").unlink(missing_ok=True)
        put(self, files)

    write(place.folder, note="", metrics="one\n")
    monkeypatch.setattr(RemotePath, "put", put_late)
    place.put()
    assert set(remote.files()) == {"metrics", "owner.json"}


def test_one_that_is_started_later_takes_over(run):
    first, remote = run
    with run_folder(str(remote)) as second, second.held():
        checkpoint(first.folder, 10)
        with pytest.raises(NotPut, match="taken over by process"):
            first.put()
    assert not any("checkpoints" in name for name in remote.files())
    (remote / "owner.json").unlink()
    with pytest.raises(NotPut, match="no such object"):
        first.put()
    (remote / "owner.json").write_text(json.dumps({"id": first._id}))


def test_what_fails_in_the_background_is_raised_at_the_next_look(bucket, monkeypatch):
    monkeypatch.setattr(runs, "PUT_EVERY", 0.0)

    def train():
        with run_folder("memory://bucket/run") as place, place.held():
            (bucket / "run/owner.json").write_text('{"id": "other", "process": 7, "host": "b"}')
            while True:
                place.require_put()

    with pytest.raises(NotPut, match="taken over by process 7 on b"):
        train()


def test_all_is_put_at_the_end_also_after_an_error(bucket):
    folders = []

    def train():
        with run_folder("memory://bucket/run") as place, place.held():
            folders.append(place.folder)
            checkpoint(place.folder, 10)
            raise KeyError

    with pytest.raises(KeyError):
        train()
    assert (bucket / "run/checkpoints/10/whole.json").is_file()
    assert not folders[0].exists()


def test_an_object_of_a_checkpoint_that_is_gone_is_left_to_the_restoring(run, tmp_path):
    place, remote = run
    checkpoint(place.folder, 10)
    place.put()
    (remote / "checkpoints/10/state/d/x").unlink()
    assert pull(remote, tmp_path) == {10}
    complete(tmp_path, 10)
    assert not (tmp_path / "checkpoints/10/state").exists()


def test_a_mark_that_names_files_elsewhere_reaches_none(run, tmp_path):
    place, remote = run
    checkpoint(place.folder, 10)
    place.put()
    mark = ["../../../outside", "/etc/passwd", "state/d/x"]
    (remote / "checkpoints/10/whole.json").write_text(json.dumps(mark))
    (remote / "outside").write_text("x")
    copy = tmp_path / "a" / "b"
    copy.mkdir(parents=True)
    pull(remote, copy)
    complete(copy, 10)
    names = {path.name for path in copy.parent.rglob("*") if path.is_file()}
    assert names == {".origin.json", "lock", "outside", "x"}


def test_a_place_without_a_run_is_refused(bucket):
    with pytest.raises(InputError, match="there is no run"):
        local("memory://bucket/run")


def test_folders_of_processes_that_were_killed_are_removed(bucket, tmp_path):
    left = tmp_path / "cache/runs/left"
    write(left, memory__bucket__run__metrics="")
    with run_folder("memory://bucket/run") as place:
        assert not left.exists()
        with run_folder("memory://bucket/run"):
            assert place.folder.exists()


def test_what_is_written_into_a_copy_can_be_put_back(run, tmp_path):
    place, remote = run
    write(place.folder, metrics="one\n")
    place.put()
    copy = local(str(remote))
    write(copy, codec="networks")
    put_back(copy, "codec")
    assert (remote / "codec").read_text() == "networks"
    put_back(tmp_path, "nothing")


@pytest.mark.parametrize("sees", [True, False])
def test_other_processes_train_in_the_folder_of_process_0(bucket, tmp_path, monkeypatch, sees):
    told = tmp_path if sees else tmp_path / "of another machine"
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(runs, "is_main_process", lambda: False)
    monkeypatch.setattr(runs, "_told", lambda text: str(told))
    monkeypatch.setattr(multihost_utils, "sync_global_devices", lambda name: None)
    if sees:
        with run_folder("memory://bucket/run") as place:
            assert (place.folder, place.name) == (tmp_path, "memory://bucket/run")
        return
    with pytest.raises(InputError, match="Set AVQ_CACHE"), run_folder("memory://bucket/run"):
        pass


def test_what_process_0_says_arrives():
    assert runs._told("/a folder/ä") == "/a folder/ä"
