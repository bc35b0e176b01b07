"""The wheel, installed beside the running environment's packages, used from an empty folder."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import avq

ROOT = Path(__file__).parent.parent
SYSTEMS = {
    "a_vqvae",
    "ah3_vqvae",
    "ah_vqvae",
    "ah_vqvae_plus",
    "common",
    "h_vqvae",
    "prior",
    "vqvae",
}


def run(*command, folder=None):
    """Standard output of a command that has to succeed, without this checkout on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(source, target):
    """Builds without network: the build backend is one of the test tools."""
    options = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", source, *options, "--wheel-dir", target)
    (wheel,) = target.glob("*.whl")
    return wheel


def evaluation_of(folder):
    """The last evaluation that a run wrote."""
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def names_and_sizes(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


# Runs one after the other in one process, which starts once.
TRAIN = """
import sys
from avq import main
for words in sys.argv[1:]:
    assert main.main(words.split()) == 0
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder of the programs of an environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    bin_folder = folder / "bin"
    python = bin_folder / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel)
    # A path behind the environment's own, whose editable installations do not count.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    paths = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    (site_packages / "others.pth").write_text("\n".join(others))
    return bin_folder


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


def test_wheel_has_every_module_and_every_config_once_and_nothing_else(wheel):
    names = [name for name in names_and_sizes(wheel) if ".dist-info/" not in name]
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("avq/**/*.py")}
    configs = {f"avq/configs/{name}.py" for name in SYSTEMS}
    others = {"avq/py.typed", "avq/report/page.html"}
    shipped = {str(path.relative_to(ROOT)) for path in ROOT.glob("avq/shipped/[a-z]*/*.*")}
    assert sorted(names) == sorted(modules | configs | others | shipped)


def test_wheel_of_the_source_distribution_is_the_same(wheel, tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, folder=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    again = build_wheel(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path)
    assert names_and_sizes(again) == names_and_sizes(wheel)


def test_installed_package_and_configs_are_those_of_the_wheel(installed, empty):
    program = "import avq.configs.common, avq; print(avq.__version__, avq.__file__)"
    version, file = run(installed / "python", "-c", program, folder=empty).split()
    assert version == avq.__version__
    assert Path(file).is_relative_to(installed.parent)
    assert run(installed / "avq", "--version", folder=empty).strip() == avq.__version__


def test_system_is_described_by_its_name(installed, empty):
    printed = run(installed / "avq", "describe", "ah_vqvae:tiny", "--json", folder=empty)
    assert json.loads(printed)["tokens"] == [16 * 16, 8 * 8]


def test_runs_are_trained_and_evaluated_in_an_empty_folder(installed, empty, plain):
    (empty / "mine.py").write_text(
        "from avq.configs import common\n\n\ndef get_config():\n"
        "    config = common.system('tiny', levels=1, attention_norm='off')\n"
        "    config.loss.adversarial_weight = 0.0\n    return config\n"
    )
    python, shrunk = installed / "python", [*plain[1:], "--config.train.steps=2"]
    named = "--config=configs/vqvae.py:tiny", "--workdir=runs/a"
    assert "eval at 2" in run(python, "-m", "avq.main", *named, *shrunk, folder=empty)
    others = "--config vqvae:tiny --workdir runs/b", "--config mine.py --workdir runs/c"
    run(python, "-c", TRAIN, *(" ".join((other, *shrunk)) for other in others), folder=empty)
    run(installed / "avq", "eval", "runs/a", "--json", "a.json", folder=empty)
    assert json.loads((empty / "a.json").read_text())["n"] == 4
    # The same settings under three names.
    configs = [json.loads((empty / "runs" / name / "config.json").read_text()) for name in "abc"]
    assert configs[0] == configs[1] == configs[2]
    evaluated = [evaluation_of(empty / "runs" / name) for name in "abc"]
    assert evaluated[0]["eval/n"] == 4
    assert evaluated[0] == evaluated[1] == evaluated[2]
