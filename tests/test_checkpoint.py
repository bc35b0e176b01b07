"""Checkpoints that were damaged on purpose, a folder that is in use, a disk that is full."""

import json
import logging
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq import abandoned_work
from avq.checkpoint import Checkpoints, NotSaved, checksums
from avq.errors import InputError
from avq.lock import locked

STEPS = (3, 5)


def state_of(step):
    """Arrays large enough that every one differs from another step's in any part of a file."""
    rng = np.random.default_rng(step)
    return {
        "step": np.int32(step),
        "params": {
            "kernel": rng.normal(size=(64, 33)).astype(np.float32),
            "bias": np.ones(3, np.float32),
        },
        "opt_state": (rng.integers(0, 9, (5, 7)).astype(np.int32), None),
    }


def save(run, steps=STEPS, **options):
    with Checkpoints(run, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, jax.tree.map(jnp.asarray, state_of(step)), {"seed": 0})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run with two checkpoints."""
    run = tmp_path_factory.mktemp("runs") / "run"
    save(run)
    return run


def target():
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, jnp.asarray(a).dtype, sharding=device), state_of(3)
    )


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = b"\x5a" * len(content[middle : middle + 8])
    path.write_bytes(content)


FILES = [
    *("_CHECKPOINT_METADATA", "state/_METADATA", "state/_sharding", "state/manifest.ocdbt"),
    *("state/array_metadatas/process_0", "checksums/metadata", "config/metadata"),
    *("state/ocdbt.process_0/manifest.ocdbt", "state/d/*", "state/ocdbt.process_0/d/*"),
]


@pytest.mark.parametrize("harm", [cut, overwrite, Path.unlink])
@pytest.mark.parametrize("files", FILES)
def test_damaged_checkpoint_is_passed_over_or_read_as_it_was_saved(
    saved, tmp_path, caplog, files, harm
):
    for path in sorted((saved / "checkpoints" / "5").glob(files)):
        run = tmp_path / path.name
        shutil.copytree(saved, run)
        harm(run / path.relative_to(saved))
        caplog.clear()
        with caplog.at_level(logging.WARNING), Checkpoints(run) as checkpoints:
            step, state = checkpoints.restore_newest(target())
            assert step in STEPS
            chex.assert_trees_all_equal(state, jax.tree.map(jnp.asarray, state_of(step)))
            if step == 3:
                assert "checkpoint 5 is damaged, 3 is taken" in caplog.text
                assert (run / "damaged" / "5").is_dir()
                assert checkpoints.steps() == [3]
        with Checkpoints(run, read_only=True) as checkpoints:
            step, state = checkpoints.restore_arrays()
            assert checksums(state) == checksums(state_of(step))


def test_reports_of_reads_that_orbax_abandons_are_dropped_and_no_others(saved, monkeypatch):
    reported: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reported.append(str(report.exc_value)))
    raised: list[str] = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, trace: raised.append(str(error)))
    drop = abandoned_work._drop_reports_of_exceptions
    drop.cache_clear()
    with Checkpoints(saved, read_only=True) as checkpoints:
        checkpoints.restore_arrays()
    drop.cache_clear()  # else it would stay away from the tests after this one
    for file in ["site-packages/orbax/serialization.py", "theirs.py"]:
        defined: dict[str, Any] = {}
        exec(compile(READ, file, "exec"), defined)
        defined["read"](file).send(None)  # and gone before it is done
    assert reported == ["theirs.py"]
    for error in (RuntimeError("Event loop is closed"), RuntimeError("theirs")):
        sys.excepthook(type(error), error, None)
    assert raised == ["theirs"]


def test_warnings_of_coroutines_that_orbax_never_begins_are_dropped_and_no_others(saved):
    async def write_fragment():
        """Named as Orbax's."""

    async def theirs():
        """Named as a user's."""

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with Checkpoints(saved, read_only=True) as checkpoints:
            checkpoints.restore_arrays()
        for unawaited in (write_fragment(), theirs()):
            del unawaited
    (warning,) = warned
    assert "theirs' was never awaited" in str(warning.message)


READ = """
import asyncio
async def read(file):
    try:
        await asyncio.sleep(0)
    except GeneratorExit:
        raise OSError(file)
"""


def test_bits_that_changed_unnoticed_by_storage_are_noticed(saved, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    file = run / "checkpoints" / "5" / "checksums" / "metadata"
    sums = json.loads(file.read_text())
    sums["params/kernel"] ^= 1
    file.write_text(json.dumps(sums))
    with Checkpoints(run, read_only=True) as checkpoints:
        step, _ = checkpoints.restore_arrays()
        assert step == 3
        with pytest.raises(InputError, match=r"number 5: .*params/kernel is not what was saved"):
            checkpoints.restore_arrays(5)


def test_when_no_checkpoint_can_be_read_the_run_is_refused_and_left_alone(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    for step in STEPS:
        shutil.rmtree(run / "checkpoints" / str(step) / "state")
    before = sorted(run.rglob("*"))
    with Checkpoints(run) as checkpoints, pytest.raises(InputError, match=r"no checkpoint of .* 5"):
        checkpoints.restore_newest(target())
    assert sorted(run.rglob("*")) == before


def test_checksums_are_of_bits_and_named_alike_before_and_after_saving(saved):
    with Checkpoints(saved, read_only=True) as checkpoints:
        _, restored = checkpoints.restore_arrays(5)
    assert checksums(restored) == checksums(jax.tree.map(jnp.asarray, state_of(5)))
    assert checksums({"a": np.float32(0.0)}) != checksums({"a": np.float32(-0.0)})


@pytest.mark.parametrize(("best", "kept"), [("max", [2, 5, 6]), ("min", [1, 5, 6])])
def test_newest_and_best_are_kept(tmp_path, best, kept):
    run = tmp_path / "run"
    measure = {1: 20.0, 2: 25.0, 3: None, 4: 22.0, 5: None, 6: 21.0}
    for half in ((1, 2, 3), (4, 5, 6)):  # across a restart
        with Checkpoints(run, keep=2, keep_best=1, best=("psnr", best)) as checkpoints:
            for step in half:
                checkpoints.save(step, {"a": jnp.zeros(3)}, {}, measure[step])
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.steps() == kept


@pytest.mark.parametrize("best", ["max", "min"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_measure_that_is_not_finite_is_never_the_best(tmp_path, best, value):
    run = tmp_path / "run"
    with Checkpoints(run, keep=1, keep_best=1, best=("psnr", best)) as checkpoints:
        for step, measure in enumerate((20.0, value, 19.0, None), start=1):
            checkpoints.save(step, {"a": jnp.zeros(3)}, {}, measure)
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.steps() == ([1, 4] if best == "max" else [3, 4])


def test_half_written_checkpoint_is_none(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    whole = run / "checkpoints" / "5"
    whole.rename(whole.with_name("5.orbax-checkpoint-tmp"))
    with Checkpoints(run) as checkpoints:
        assert checkpoints.steps() == [3]
        checkpoints.save(5, jax.tree.map(jnp.asarray, state_of(5)), {})
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.steps() == [3, 5]
        chex.assert_trees_all_equal(
            checkpoints.restore_arrays()[1]["params"], state_of(5)["params"]
        )


def test_what_cannot_be_written_is_told_and_the_last_checkpoint_stays(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved, run)

    def save_to_full_disk():
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with Checkpoints(run) as checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
            try:
                checkpoints.save(7, state_of(7), {})
                checkpoints.save(8, state_of(8), {})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.raises(
        NotSaved, match=r"could not save to .*: File too large\. .* continues from step 5"
    ):
        save_to_full_disk()
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.restore_arrays()[0] == 5


def test_failed_save_is_told_without_another_one(saved, tmp_path):
    def poll(checkpoints):
        for _ in range(1_000_000):
            checkpoints.require_saved()

    run = tmp_path / "run"
    shutil.copytree(saved, run)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(run) as checkpoints:
        checkpoints.require_saved()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
        try:
            checkpoints.save(7, state_of(7), {})
            with pytest.raises(NotSaved, match=r"File too large\. .* continues from step 5"):
                poll(checkpoints)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_folder_that_has_disappeared_is_told_and_not_made_again(tmp_path):
    run = tmp_path / "run"
    save(run)
    with Checkpoints(run) as checkpoints:
        shutil.rmtree(run)
        with pytest.raises(NotSaved, match=r"run' has disappeared\. Put it back"):
            checkpoints.save(7, state_of(7), {})
    assert not run.exists()


def test_waiting_tells_what_could_not_be_written(saved, monkeypatch):
    def fail(self):
        raise OSError(28, "No space left on device")

    with Checkpoints(saved, read_only=True) as checkpoints:
        monkeypatch.setattr(type(checkpoints._manager), "wait_until_finished", fail)
        with pytest.raises(NotSaved, match=r"No space left on device\. .* from step 5"):
            checkpoints.wait()
        monkeypatch.undo()


HOLD = """
import sys
from pathlib import Path
from avq.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_folder_is_held_by_one_process_until_it_ends_however_it_ends(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(InputError, match=f"in use by process {holder.pid} on "),
        locked(tmp_path / "run"),
    ):
        pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path / "run"):
        pass


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot write to .*: Not a directory"),
        locked(tmp_path / "file" / "run"),
    ):
        pass
