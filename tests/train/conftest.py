"""Fixtures of the trainer's tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def exit_code_of():
    """Calls a test module's function with a folder in a process of its own; gives the process's
    exit code.
    """

    def call(function, folder, **environment):
        path = Path(function.__code__.co_filename).relative_to(Path.cwd())
        module, name = ".".join(path.with_suffix("").parts), function.__name__
        code = f"import sys; from {module} import {name}; sys.exit({name}(sys.argv[1]))"
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()} | environment
        return subprocess.run([sys.executable, "-c", code, folder], env=environment).returncode

    return call
