"""Runs of several processes: how they connect, and that they train as one."""

import os
import signal
import socket
import subprocess
import sys

import chex
import jax
import pytest

from avq import hosts, tasks
from avq.checkpoint import Checkpoints
from avq.errors import InputError
from avq.train import loop


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("host", r"--distributed=host is not --distributed=HOST:PORT,PROCESSES,INDEX"),
        ("host,2,0", "is not"),
        ("host:80,2", "is not"),
        ("host:80,two,0", "is not"),
        ("host:80,2,2", r"process 2 is none of 0 to 1"),
    ],
)
def test_flag_of_another_form_is_refused(flag, message):
    with pytest.raises(InputError, match=message):
        hosts.initialize(flag)


@pytest.mark.parametrize(
    "counts", [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"OMPI_COMM_WORLD_SIZE": ""}]
)
def test_process_alone_connects_to_nobody(counts, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    for name in hosts.TASKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in counts.items():
        monkeypatch.setenv(name, value)
    hosts.initialize(None)
    assert calls == []


@pytest.mark.parametrize("name", hosts.TASKS)
def test_tasks_that_were_started_together_connect(name, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    monkeypatch.setattr(hosts, "_watch_others", lambda: None)
    monkeypatch.setenv(name, "2")
    hosts.initialize(None)
    hosts.initialize("")
    hosts.initialize("host:80,4,1")
    by_hand = {"coordinator_address": "host:80", "num_processes": 4, "process_id": 1}
    timeouts = {"initialization_timeout": 600, "heartbeat_timeout_seconds": 60}
    assert calls == [timeouts, timeouts, by_hand | timeouts]


def test_others_that_do_not_answer_are_named_as_the_cause(monkeypatch):
    def initialize(**_):
        raise RuntimeError("DEADLINE_EXCEEDED:\n  Barrier timed out")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(
        hosts.NotConnected, match=r"could not reach .*: DEADLINE_EXCEEDED: Barrier timed"
    ):
        hosts.initialize("host:80,2,1")


ALONE = """
import sys
from avq import hosts, main
hosts.TOLD_AFTER, hosts.GIVEN_UP_AFTER = 0.1, 0.2
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("index", [0, 1])
def test_process_alone_ends_in_one_line(plain, tmp_path, one_line, index):
    command = [sys.executable, "-c", ALONE, *plain, f"--workdir={tmp_path / 'run'}"]
    ended = subprocess.run(
        [*command, f"--distributed={free_address()},2,{index}"],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == os.EX_TEMPFAIL
    waiting, *rest = ended.stderr.splitlines()
    assert waiting.startswith("waiting ")
    assert "the other processes did not come in 0 s. Start all" in one_line("\n".join(rest))
    assert not (tmp_path / "run").exists()


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(arguments, processes, devices, own=("", "")):
    """Processes of a run, each with its own devices of the CPU backend, and its own argument."""
    address = free_address()
    program = (
        "import sys, jax; jax.config.update('jax_num_cpu_devices', int(sys.argv[1])); "
        "from avq import hosts, main, parallel; parallel.SMALL = 1; hosts.BEAT = 0.3; "
        "sys.exit(main.main(sys.argv[2:]))"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-c", program, str(devices), *arguments, *own[index].split()),
                f"--distributed={address},{processes},{index}",
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]


def test_two_processes_train_as_one_and_stop_together(plain, tmp_path):
    many = ["--config.parallel.devices=0", "--config.train.steps=100000"]
    run, alone = tmp_path / "together", tmp_path / "alone"
    many.append("--config.parallel.fsdp=True")  # each holds a part of the state
    both = start([*plain, *many, f"--workdir={run}"], processes=2, devices=2)
    for line in both[0].stdout:
        if "step 4/" in line:
            break
    both[1].send_signal(signal.SIGTERM)  # to the one that does not speak
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2, outputs
    with Checkpoints(run, read_only=True) as checkpoints:
        step, together = checkpoints.restore_arrays()
    assert f"saved step {step}." in outputs[0]

    same = [*plain, "--config.parallel.devices=4", f"--config.train.steps={step}"]
    assert loop.train(tasks.make_task(tasks.load(same)), str(alone)) == 0
    with Checkpoints(alone, read_only=True) as checkpoints:
        _, expected = checkpoints.restore_arrays(step)
    assert together["step"] == expected["step"] == step
    # Adam divides by what may be rounding alone, so parameters may differ by a learning rate; that
    # every process saw its own part of each batch shows in the statistics.
    for part in ("batch_stats", "codebook"):
        chex.assert_trees_all_close(
            together["players"]["vqvae"]["model_state"][part],
            expected["players"]["vqvae"]["model_state"][part],
            rtol=0.02,
            atol=2e-3,
        )


def test_process_whose_other_is_killed_ends_with_75_and_one_line(plain, tmp_path):
    forever = ["--config.parallel.devices=0", "--config.train.steps=100000"]
    unmeasured = [*plain, *forever, "--config.train.eval_every=100000"]
    both = start([*unmeasured, f"--workdir={tmp_path / 'run'}"], processes=2, devices=2)
    for line in both[0].stdout:
        if "step 4/" in line:
            break
    both[1].kill()
    both[1].communicate()
    output = both[0].communicate()[0]
    assert both[0].returncode == os.EX_TEMPFAIL, output
    (error,) = [line for line in output.splitlines() if not line.startswith(("step ", "eval "))]
    assert error.startswith("error: lost another process: ")


WAITING = """
import sys, time
from avq import hosts
hosts.BEAT = 0.3
hosts.initialize(sys.argv[1])
time.sleep((hosts.MISSED + 5) * hosts.BEAT)
print("connected", flush=True)
time.sleep(600)
"""


# As in a collective on a GPU whose other side is gone. A halted process keeps its connections.
# (When process 0 is killed, JAX itself ends the others, by SIGABRT.)
@pytest.mark.parametrize(
    ("lost", "signal_"), [(1, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGSTOP)]
)
def test_process_that_waits_for_one_that_is_lost_ends_with_75(lost, signal_, one_line):
    address = free_address()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING, f"{address},2,{index}"],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in both:
        assert process.stdout
        assert process.stdout.readline() == "connected\n"
    both[lost].send_signal(signal_)
    _, error = both[1 - lost].communicate()
    both[lost].kill()
    both[lost].communicate()
    assert both[1 - lost].returncode == os.EX_TEMPFAIL, error
    assert one_line(error).startswith(f"error: lost another process: process {lost} ")


def test_process_that_fails_alone_ends_the_others_with_its_code(plain, tmp_path):
    run = tmp_path / "run"
    settings = [*plain, "--config.parallel.devices=0", f"--workdir={run}"]
    both = start(settings, processes=2, devices=2, own=["", "--config.data.path=/not/there"])
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [2, 2], outputs
    assert "error: process 1 ended with exit code 2; its own line says why." in outputs[0]
