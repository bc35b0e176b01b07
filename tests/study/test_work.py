"""Doing a study: what is left out, shared, interrupted, tried again; with a trainer's stand-in and,
once, with the trainer.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from avq.errors import InputError
from avq.lock import locked
from avq.study import Study, plots
from avq.study.work import CLAIMS, RUNS, Work
from avq.train.stop import Stop

TINY = ["vqvae:tiny", "--config.data.batch_size=4"]


@pytest.fixture
def study():
    systems = {"one": TINY, "two": [*TINY, "--config.optim.b1=0.25"]}
    return Study(systems, baseline="one", seeds=2, steps=3)


def stand_in(self, job, claim, stop):
    """What training leaves of a run."""
    run = self.out / RUNS / job.folder
    run.mkdir(parents=True, exist_ok=True)
    psnr = 20.0 + job.seed + len(job.system)
    record = {"step": 3, "eval/psnr": psnr, "eval/bits_per_pixel": 0.5, "eval/ssim": 0.5}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    return 0


@pytest.fixture
def trained(monkeypatch):
    """Folders that the stand-in trained, in order; `fails` has exit codes by folder."""
    folders = []

    def train(self, job, claim, stop):
        folders.append(job.folder)
        if code := fails.get(len(folders)):
            stop.number = code - 128 if code > 128 else 0
            return code
        return stand_in(self, job, claim, stop)

    fails: dict[int, int] = {}
    monkeypatch.setattr(Work, "_train", train)
    monkeypatch.setattr(Work, "_measure_baselines", lambda self, job: None)
    for chart in ("line_chart", "points"):  # drawn in tests/report
        monkeypatch.setattr(plots, chart, lambda *arguments: "<svg></svg>")
    return folders, fails


def test_done_runs_are_not_trained_again_even_without_their_folders(study, tmp_path, trained):
    folders, _ = trained
    assert Work(study, tmp_path, print).run(Stop()) == 0
    assert len(folders) == 4
    before = (tmp_path / "results.csv").read_bytes()
    (tmp_path / RUNS).rename(tmp_path / "elsewhere")
    assert Work(study, tmp_path, print).run(Stop()) == 0
    assert len(folders) == 4
    assert (tmp_path / "results.csv").read_bytes() == before
    assert "| one | 2 | 23.50" in (tmp_path / "table.md").read_text()
    plots = {f"psnr_over_{x}-photographs.svg" for x in ("step", "seconds", "bits")}
    assert {path.name for path in tmp_path.glob("*.svg")} == plots


def test_interrupted_study_ends_in_the_same_csv(study, tmp_path, trained):
    folders, fails = trained
    assert Work(study, tmp_path / "whole", print).run(Stop()) == 0
    folders.clear()
    fails[2] = 128 + signal.SIGTERM
    assert Work(study, tmp_path / "parts", print).run(Stop()) == 128 + signal.SIGTERM
    assert Work(study, tmp_path / "parts", print).run(Stop()) == 0
    assert len(folders) == 5  # the second one twice
    whole, parts = (tmp_path / part / "results.csv" for part in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_failed_run_is_named_and_tried_again(study, tmp_path, trained, capsys):
    folders, fails = trained
    fails[1] = 1
    assert Work(study, tmp_path, print).run(Stop()) == 1
    assert f"failed: {folders[0]} (exit code 1)" in capsys.readouterr().out
    assert Work(study, tmp_path, print).run(Stop()) == 0
    assert folders[4] == folders[0]
    assert len(folders) == 5


def test_run_in_other_hands_is_left_to_them(study, tmp_path, trained, capsys):
    folders, _ = trained
    work = Work(study, tmp_path, print)
    with locked(tmp_path / CLAIMS / work.jobs[0].folder):
        assert work.run(Stop()) == 0
    assert work.jobs[0].folder not in folders
    assert len(folders) == 3
    assert "1 runs are in the hands of other processes" in capsys.readouterr().out


def test_run_that_others_let_go_of_is_done_in_the_end(study, tmp_path, trained, monkeypatch):
    folders, _ = trained
    work = Work(study, tmp_path, print)
    other = locked(tmp_path / CLAIMS / work.jobs[0].folder)
    other.__enter__()
    train = Work._train

    def and_let_go(self, job, claim, stop):
        if not folders:
            other.__exit__(None, None, None)
        return train(self, job, claim, stop)

    monkeypatch.setattr(Work, "_train", and_let_go)
    assert work.run(Stop()) == 0
    assert folders[-1] == work.jobs[0].folder
    assert len(folders) == 4


def test_changed_system_is_trained_again_and_replaces_its_rows(study, tmp_path, trained):
    folders, _ = trained
    Work(study, tmp_path, print).run(Stop())
    changed = Study(dict(study.systems) | {"two": TINY}, baseline="one", seeds=2, steps=3)
    assert Work(changed, tmp_path, print).run(Stop()) == 0
    assert len(folders) == 6
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 4


def test_orphan_of_a_killed_study_keeps_its_claim(tmp_path):
    """The claim is held by the trainer's process, too."""
    folder = tmp_path / "claim"
    script = (
        "import subprocess, sys; from pathlib import Path; from avq.lock import locked\n"
        "with locked(Path(sys.argv[1])) as claim:\n"
        "    waits = [sys.executable, '-c', 'input()']\n"
        "    subprocess.Popen(waits, pass_fds=(claim.fileno(),))\n"
        "    import os; os._exit(0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        parent.wait()
        with pytest.raises(Exception, match="in use"), locked(folder):
            pass
        parent.stdin.write("\n")  # the orphan ends
    with locked(folder, wait=True):
        pass


def test_baselines_are_measured_once_for_data_and_bits(study, tmp_path, monkeypatch):
    kmeans = {"psnr": 20.5, "ssim": 0.75, "bits_per_pixel": 0.5}
    asked = []

    def evaluate(command, **_):
        asked.append(command)
        Path(command[-1]).write_text(json.dumps({"baselines": {"patch_kmeans": kmeans}}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(Work, "_train", stand_in)
    monkeypatch.setattr(subprocess, "run", evaluate)
    assert Work(study, tmp_path, print).run(Stop()) == 0
    (command,) = asked
    assert command[1:4] == ["-m", "avq.cli", "eval"]
    assert command[5:-1] == ["--baselines", "--json"]
    assert "| patch_kmeans | 0.5000 | 20.50 |" in (tmp_path / "table.md").read_text()


def test_speed_that_cannot_be_measured_is_one_line(study, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 2, stderr="error: no such data.\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: failed)
    timed = Study(study.systems, baseline="one", seconds=10.0)
    with pytest.raises(InputError, match=r"^system 'one': error: no such data\.$"):
        Work(timed, tmp_path, print)


def test_trainer_trains_a_run_of_a_study(plain, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(Work, "_measure_baselines", lambda self, job: None)
    study = Study({"AH": plain}, baseline="AH", data={"folder": _path(plain)}, steps=2)
    assert Work(study, tmp_path, print).run(Stop()) == 0
    assert "run 1 of 1: AH-folder-seed0" in capfd.readouterr().out
    (job,) = Work(study, tmp_path, print).jobs
    header, first, last = (tmp_path / "results.csv").read_text().splitlines()
    assert header.startswith("system,data,seed,step,config,images,seconds,n,mae")
    assert first.startswith(f"AH,folder,0,1,{job.digest},8,")
    assert last.startswith(f"AH,folder,0,2,{job.digest},16,")


def _path(arguments):
    (path,) = (a.partition("=")[2] for a in arguments if a.startswith("--config.data.path="))
    return path
