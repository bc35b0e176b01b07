"""Set-up that all tests share: eight CPU devices, strict ranks, a compilation cache, a run."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import avq
from avq import cli, tasks
from avq.apply.export import export
from avq.train import loop

CACHE = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", Path.home() / ".cache" / "avq" / "tests"))

# Whether a closed terminal is ignored, as under nohup, is inherited by processes of a test.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tracing makes many objects that stay, such as those of jitted programs, and a full collection
# walks them all: at Python's own thresholds that takes a seventh of the time.
gc.set_threshold(30_000)

# Most of the suite's time goes into compiling programs that then run for milliseconds, so code is
# made the quickest way: unoptimised, and in one piece, since no core is free to make others. XLA's
# own passes, which choose what is computed and in which order, are left as users have them.
QUICKLY = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):  # JAX 0.12 refuses a flag that it does not know
    QUICKLY.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(QUICKLY))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)  # that of processes of a test, too
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty small pictures of smooth colours, in train/ (16) and test/ (4)."""
    folder: Path = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(20):
        path = folder / ("train" if i < 16 else "test") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8))
        coarse.resize((20, 24), Image.Resampling.BILINEAR).save(path)
    return folder


@pytest.fixture(scope="session")
def smoke(image_folder) -> list[str]:
    """Arguments of a run that takes seconds; further ones go behind and win."""
    shrunk = {
        "data.path": image_folder,
        "data.image_size": 16,
        "data.batch_size": 8,
        "model.codebook_size": 8,
        "model.code_dim": 4,
        "model.base_filters": "(4,4)",
        "model.aren_filters": 4,
        "model.decoder_filters": "(4,4,4)",
        "model.attention_dim": 4,
        "model.encoder_blocks": 0,
        "model.decoder_blocks": 0,
        "discriminator.filters": "(4,4,1)",
        "discriminator.strides": "(2,2,1)",
        "optim.decay": "constant",  # one program however many steps, found in the cache again
        "train.steps": 6,
        "train.log_every": 2,
        "train.eval_every": 3,
        "checkpoint.every": 2,
        "parallel.devices": 1,
    }
    settings = [f"--config.{key}={value}" for key, value in shrunk.items()]
    return ["--config=configs/ah_vqvae.py:tiny", *settings]


@pytest.fixture(scope="session")
def plain(smoke) -> list[str]:
    """The same of the plain baseline, compiled sooner: for what does not depend on the system."""
    return ["--config=configs/vqvae.py:tiny", *smoke[1:], "--config.optim.optimizer=adam"]


@pytest.fixture(scope="session")
def run(smoke, tmp_path_factory) -> Path:
    """The folder of a run of two steps of `smoke`. To be left as it is."""
    folder: Path = tmp_path_factory.mktemp("runs") / "trained"
    config = tasks.load([*smoke, "--config.train.steps=2"])
    assert loop.train(tasks.make_task(config), str(folder)) == 0
    return folder


@pytest.fixture(scope="session")
def tokenizer(run) -> avq.Tokenizer:
    """The model of `run`."""
    return avq.load(run)


@pytest.fixture(scope="session")
def released(tokenizer, tmp_path_factory) -> Path:
    """Released folder of that model, which loads faster than `run`. To be left as it is."""
    folder: Path = tmp_path_factory.mktemp("released") / "model"
    export(tokenizer.trained, folder, "# card\n")
    return folder


@pytest.fixture(scope="session")
def prior_smoke(run) -> list[str]:
    """Arguments of the training of a prior that takes seconds, on the codes of `run`."""
    shrunk = {
        "tokenizer": run,
        "data.batch_size": 8,
        "model.width": 8,
        "model.depth": 1,
        "model.heads": 2,
        "model.code_dim": 4,
        "optim.decay": "constant",
        "train.steps": 4,
        "train.log_every": 2,
        "train.eval_every": 2,
        "checkpoint.every": 2,
        "parallel.devices": 1,
    }
    settings = [f"--config.{key}={value}" for key, value in shrunk.items()]
    return ["--config=configs/prior.py:tiny", *settings]


@pytest.fixture(scope="session")
def prior_run(prior_smoke, tmp_path_factory) -> Path:
    """The folder of a run of `prior_smoke`. To be left as it is."""
    folder: Path = tmp_path_factory.mktemp("runs") / "prior"
    assert loop.train(tasks.make_task(tasks.load(prior_smoke)), str(folder)) == 0
    return folder


@pytest.fixture(scope="session")
def squares() -> Callable[[Path], np.ndarray]:
    """Reads the images of a folder as Pillow alone crops and shrinks them for `smoke`."""

    def read(folder: Path) -> np.ndarray:
        rows = []
        for path in sorted(folder.rglob("*.png")):
            with Image.open(path) as image:
                square = image.crop((0, 2, 20, 22)).resize((16, 16), Image.Resampling.LANCZOS)
            rows.append(np.asarray(square))
        return np.stack(rows)

    return read


@pytest.fixture(scope="session")
def images(squares, image_folder) -> np.ndarray:
    """The test images of `run`, 0..255."""
    pixels: np.ndarray = squares(image_folder / "test")
    return pixels


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Any]:
    """Calls `avq` with arguments of any type."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def one_line() -> Callable[[str], str]:
    """Returns the only line of an error message."""

    def checked(text: str) -> str:
        (line,) = text.splitlines()
        assert line.startswith("error: ")
        assert "Traceback" not in line
        return line

    return checked
