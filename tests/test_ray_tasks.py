"""Workers as tasks of Ray, on this machine: the bytes of one call; what is refused."""

import os
import signal
import sys
from functools import partial

import pytest

from avq.data import prepare as module
from avq.errors import InputError
from avq.ray_tasks import run_workers


def in_small_shards(source, target, **options):
    """Prepares a set, in a process that no fixture of a test has touched."""
    module.IMAGES_PER_SHARD = 4
    return module.prepare(str(source), target, size=8, **options)


def killed_at_first(trace, call, **options):
    """The same, but the first worker to come is killed in the middle of a shard."""

    def on_images(_):
        if not trace.exists():
            trace.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return call(**options, **({} if "finish" in options else {"on_images": on_images}))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^--ray needs Ray\. Run: pip install 'avq\[ray\]'$"):
        run_workers(lambda **_: None, 3)


@pytest.mark.filterwarnings("default")  # Ray's own
def test_tasks_end_in_the_bytes_of_one_call_though_one_is_killed(
    image_folder, tmp_path, monkeypatch
):
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # tasks cannot import it
    monkeypatch.setattr(module, "IMAGES_PER_SHARD", 4)
    monkeypatch.chdir(tmp_path)
    about = in_small_shards(image_folder, tmp_path / "whole")
    call = partial(in_small_shards, image_folder, (tmp_path / "set").relative_to(tmp_path))
    done: list[int] = []
    trace = tmp_path / "trace"
    by_tasks = run_workers(partial(killed_at_first, trace, call), 3, on_done=done.append)
    assert trace.exists()
    assert (by_tasks, sum(done)) == (about, 3)
    assert content(tmp_path / "set") == content(tmp_path / "whole")
    with pytest.raises(InputError, match=r"^no such file or folder: 'nowhere'"):
        run_workers(partial(in_small_shards, "nowhere", tmp_path / "other"), 1)
