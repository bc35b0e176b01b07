"""Training from the command line: flags as people type them, help, refusals."""

import json
import os
import shlex
import signal

import pytest

from avq import hosts, tasks
from avq.checkpoint import Checkpoints, NotSaved
from avq.config import flatten, joined
from avq.main import main
from avq.train import loop
from avq.train.interval import Diverged


@pytest.fixture
def asked(monkeypatch):
    """Configs, folders and profiled steps that training was asked for; nothing is trained."""
    calls = []

    def train(task, workdir, profile, init_from, stop):
        calls.append((task.config, workdir, profile, init_from))
        return 0

    monkeypatch.setattr(loop, "train", train)
    return calls


@pytest.mark.parametrize(
    "arguments",
    [
        "--config=configs/ah_vqvae.py:tiny --config.seed=5 --workdir=x --profile=3 --init-from=y",
        "--config configs/ah_vqvae.py:tiny --config.seed 5 --workdir x --profile 3 --init-from y",
        "--workdir x --profile 3 --config ah_vqvae:tiny --config.seed=5 --init-from y",
        "--config.seed 5 --init-from=y --profile=3 --config=ah_vqvae:tiny --workdir x",
    ],
)
def test_flags_are_understood_with_blanks_as_with_equals_signs(asked, arguments):
    assert main(shlex.split(arguments)) == 0
    ((config, *others),) = asked
    assert config == tasks.load(["--config=ah_vqvae:tiny"]).to_dict() | {"seed": 5}
    assert others == ["x", 3, "y"]


def test_flag_without_an_address_takes_no_value(asked, monkeypatch):
    given: list[str | None] = []
    monkeypatch.setattr(hosts, "initialize", given.append)
    for flag in ([], ["--distributed"], ["--distributed=host:80,2,1"]):
        assert main(["--config=vqvae:tiny", *flag, "--workdir", "runs/x"]) == 0
    assert given == [None, "", "host:80,2,1"]
    assert len(asked) == 3


def test_config_of_ones_own_trains_in_an_empty_folder(smoke, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from avq.configs import common\n\n\ndef get_config():\n"
        "    config = common.system('tiny', levels=1, attention_norm='off')\n"
        "    config.loss.adversarial_weight = 0.0\n    return config\n"
    )
    monkeypatch.chdir(tmp_path)
    shrunk = [*smoke[1:], "--config.train.steps=2"]
    assert main(["--config", "mine.py", *shrunk, "--workdir", "runs/mine"]) == 0
    run = tmp_path / "runs" / "mine"
    config = json.loads((run / "config.json").read_text())
    assert (config["model"]["levels"], config["train"]["steps"]) == (1, 2)
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.latest() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/ah_vqvae.py:tiny"], "--workdir is not given"),
        (["--config=configs/ah_vqvae.py:tiny", "--workdir"], "--workdir is not given"),
        (["--workdir={run}"], "--config"),
        (["--workdir", "{run}", "--config"], "--config"),
        (["--workdir={run}", "--config=configs/none.py"], "no such file: 'configs/none.py'"),
        (["--workdir={run}", "--config=configs/ah_vqvae.py:huge"], "there are: paper, tiny"),
        (["--workdir={run}", "--config=configs/ah_vqvae.py"], "add :tiny to the config"),
        (["--workdir={run}", "--config=ah_vqvae:tiny", "more"], "unknown argument 'more'"),
        (["--workdir={run}", "--config=ah_vqvae:tiny", "--steps=3"], "unknown argument '--steps"),
    ],
)
def test_bad_input_is_refused_in_one_line(capsys, tmp_path, one_line, arguments, message):
    folder = tmp_path / "run"
    given = [argument.format(run=folder) for argument in arguments]
    if any(argument.startswith("--config=") for argument in given):
        given.append("--config.parallel.devices=1")  # 10 images a batch do not go on 8
    assert main(given) == 2
    printed = capsys.readouterr()
    assert message in one_line(printed.err)
    assert printed.out in ("", f"{folder}: opening the data\n")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Diverged("step 4 is not finite"), 1),
        (NotSaved("could not save"), 1),
        (OSError(28, "No space left on device"), 1),
        (hosts.NotConnected("could not reach the other processes"), 75),
        (KeyboardInterrupt(), 128 + signal.SIGINT),
    ],
)
def test_exit_code_is_that_of_the_help(capsys, tmp_path, monkeypatch, one_line, error, code):
    def train(*_, **__):
        raise error

    monkeypatch.setattr(loop, "train", train)
    assert main(["--config=vqvae:tiny", f"--workdir={tmp_path}"]) == code
    printed = capsys.readouterr().err
    if str(error):
        assert str(error) in one_line(printed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_before_the_first_step_ends_with_its_number(tmp_path, monkeypatch, capsys, number):
    def train(*_, **__):
        os.kill(os.getpid(), number)

    monkeypatch.setattr(loop, "train", train)
    assert main(["--config=vqvae:tiny", f"--workdir={tmp_path}"]) == 128 + number
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["--workdir=x", "--help"]])
def test_usage_is_printed_and_ends_in_two_examples(capsys, asked, arguments):
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: python -m avq.main --config=")
    assert printed.err == ""
    examples = printed.out.split("examples:\n")[1].split("\n")
    examples = [shlex.split(line) for line in examples if line]
    assert len(examples) == 2
    for (*command,) in examples:
        assert command[:3] == ["python", "-m", "avq.main"]
        assert main([*command[3:], "--config.parallel.devices=1"]) == 0
    assert [workdir for _, workdir, _, _ in asked] == ["runs/demo", "runs/ah"]
    assert asked[1][0]["data"]["path"] == "faces.zip"


@pytest.mark.parametrize("config", [["--config=ah_vqvae:tiny"], ["--config", "ah_vqvae:tiny"]])
def test_help_of_a_config_lists_every_setting_with_range_and_meaning(capsys, config):
    assert main([*config, "--help"]) == 0
    printed = capsys.readouterr().out
    settings = flatten(tasks.load(joined(config, ("--config",))).to_dict())
    sums = {key for key in settings if key.startswith("loss.terms.")}
    for key in settings.keys() - sums - {"task"}:
        assert f"\n  --config.{key}=" in printed
    assert "--config.data.image_size=64\n" in printed
    assert "a whole number, between 1 and 8)" in printed
