"""The command itself: version, help with examples that work, and a quick start."""

import re
import shlex
import subprocess
import sys

import pytest

import avq
from avq import cli, tasks
from avq.config import as_flags

VERBS = [command.name for command in cli.app.registered_commands]
SLOW_TO_IMPORT = {"jax", "numpy", "flax", "ml_collections", "absl", "PIL", "tqdm"}


def examples_of(text):
    """Command lines below the heading 'Examples:', to the end of a help text."""
    lines = [line.strip() for line in text.split("xamples:\n")[1].splitlines()]
    return [shlex.split(line) for line in lines if line]


def test_verbs_are_those_of_the_readme():
    train = {"bench", "data", "describe", "eval", "prepare", "study"}
    assert set(VERBS) == train | {
        "compress",
        "decode",
        "decompress",
        "encode",
        "reconstruct",
        "sample",
        "tokenize",
        "export",
    }


def test_version_is_printed(invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == avq.__version__


def test_module_is_the_command_too():
    command = [sys.executable, "-m", "avq.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == avq.__version__


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_ends_in_examples_of_it(invoke, verb):
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    examples = examples_of(result.stdout)
    assert len(examples) >= 2
    for program, named, *arguments in examples:
        assert (program, named) == ("avq", verb)
        given = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
        listed = set(re.findall(r"^  (--[\w-]+)", result.stdout, re.MULTILINE))
        assert {flag for flag in given if not flag.startswith("--config.")} <= listed


@pytest.mark.parametrize("verb", ["bench", "describe"])
def test_configs_and_settings_of_examples_are_there(invoke, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # among those that come with avq
    for _, _, config, *others in examples_of(invoke(verb, "--help").stdout):
        settings = [a for a in others if a.startswith("--config.")]
        assert tasks.load(as_flags([config, *settings])).task == "autoencoder"


@pytest.mark.parametrize("verb", ["bench", "describe"])
def test_config_of_another_task_is_refused_in_a_line(invoke, one_line, verb):
    result = invoke(verb, "prior:tiny")
    assert result.exit_code == 2
    assert "of a prior. Give one of an autoencoder" in one_line(result.stderr)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["eval", "--help"]])
def test_command_starts_without_what_is_slow_to_import(arguments):
    program = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
        "from avq.cli import app; app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout
    assert not SLOW_TO_IMPORT & set(done.stderr.split())


@pytest.mark.parametrize("module", ["avq", "avq.main"])
def test_import_needs_nothing_that_is_slow_to_import(module):
    program = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not SLOW_TO_IMPORT & set(done.stdout.split())
