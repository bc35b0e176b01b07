"""Files of `launch/` for many workers: the commands that they run, as a scheduler would."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parent.parent / "launch"
PREPARE = ("prepare", "faces.zip", "faces256", "--size", "256")
EVAL = ("eval", "runs/ah", "--json", "eval.json")
STUDY = ("study", "study.py", "--out", "out")


@pytest.fixture
def commands(tmp_path):
    """Runs a shell command where `avq` is a script that only writes down its arguments."""
    script = tmp_path / "avq"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)

    def run(*command, **environ):
        path = f"{tmp_path}:{os.environ['PATH']}"
        environ = os.environ | {"PATH": path} | environ
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return tuple(done.stdout.splitlines())

    return run


@pytest.mark.parametrize(
    ("given", "called"),
    [
        (PREPARE, (*PREPARE, "--worker", "auto")),
        ((*PREPARE, "--finish"), (*PREPARE, "--finish")),
        (EVAL, (*EVAL, "--worker", "auto")),
        (STUDY, STUDY),
    ],
)
def test_task_of_an_array_of_slurm_is_a_worker_unless_it_finishes(commands, given, called):
    assert commands("bash", str(LAUNCH / "slurm_array.sh"), *given) == called


def test_pods_of_kubernetes_are_workers_of_as_many_as_there_are(commands):
    work, end = yaml.safe_load((LAUNCH / "indexed_job.yaml").read_text())["items"]
    assert work["spec"]["completionMode"] == "Indexed"
    called = []
    for job in (work, end):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        (variable,) = container["env"]
        called.append(commands(*container["command"], **{variable["name"]: variable["value"]}))
    *verb, flag, worker = called[0]
    assert (flag, worker) == ("--worker", f"auto/{work['spec']['completions']}")
    assert called[1] == (*verb, "--finish")
    assert work["spec"]["parallelism"] == work["spec"]["completions"]
    assert end["spec"]["suspend"]
    assert json.dumps(work).count("IMAGE") == json.dumps(end).count("IMAGE") == 1
