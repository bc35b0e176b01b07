"""Data sets and runs on a local S3 server: are they those of a folder, also when a run is killed?

    python -m benchmarks.storage [--study set run use errors] [--json FILE] [--images 3000]
        [--kills 5] [--steps 20] [--seed 0] [--server PROGRAM]

Starts moto's S3 server on a loopback port: `pip install moto[s3] flask flask-cors` beside avq, or
in an environment of its own, whose `moto_server` is then `--server`.

set: `avq prepare` of generated JPEGs into a folder and into a bucket, ended once by SIGKILL there;
the files are compared, byte by byte.

run: `ah_vqvae:tiny` trains on that set, with the run in the bucket, once undisturbed and once ended
by SIGKILL at moments drawn by the seed, half of them while a checkpoint is being put, from an empty
cache each time, as on another machine. The final states are compared bit for bit.

use: `avq eval` of the killed run, and `avq.load`, beside the undisturbed one.

errors: a bucket that does not exist, credentials that are missing, a server that is not there, an
unknown scheme, a path that is no set: each has to end in one line and exit code 2.
"""

import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

import avq
from avq.checkpoint import Checkpoints
from avq.storage.copies import WHOLE, local
from avq.storage.objects import RemotePath, at
from benchmarks._common import Row, make_parser, write_json
from benchmarks.many_images import generate

BUCKET = "s3://bucket"
STUDIES = ("set", "run", "use", "errors")
SIZE, SAVE_EVERY = 64, 4
STUDY = """from avq.study import Study
STUDY = Study(systems={"a": ["vqvae:tiny"]}, baseline="a", data={"b": "photographs"}, steps=1)
"""
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
ENVIRONMENT = {
    "AWS_ENDPOINT_URL": "",  # of the server
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    **dict.fromkeys(CREDENTIALS, "none"),
}


def moto() -> str | None:
    """Moto's program, where this environment has it."""
    beside = Path(sys.executable).with_name("moto_server")
    return str(beside) if beside.exists() else None


@contextmanager
def server(program: str) -> Iterator[None]:
    """An S3 server with an empty bucket; the environment names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    try:
        while not listens(port):
            if process.poll() is not None:
                raise SystemExit(f"{program} has ended by itself, with {process.returncode}")
            time.sleep(0.1)
        import s3fs

        s3fs.S3FileSystem().mkdir(BUCKET)
        yield
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether a server listens at a port."""
    with socket.socket() as other:
        return other.connect_ex(("127.0.0.1", port)) == 0


def start(out: Path, *words: str) -> "subprocess.Popen[str]":
    """Starts a module of avq in a group of its own, with its output in a file."""
    with out.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )


def finish(out: Path, *words: str) -> float:
    """Seconds of a command that has to succeed."""
    began = time.perf_counter()
    if code := start(out, *words).wait():
        raise SystemExit(f"{' '.join(words)}: exit code {code}\n{out.read_text()}")
    return time.perf_counter() - began


def killed_when(process: "subprocess.Popen[str]", reached: Callable[[], bool]) -> bool:
    """Ends a process and its children by SIGKILL at a moment; False when it ended before."""
    while process.poll() is None:
        if reached():
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.02)
    return False


class Study:
    """The parts of the benchmark, in a folder."""

    def __init__(self, folder: Path, arguments: Any) -> None:
        self.folder, self.out = folder, folder / "out"
        self.images, self.steps, self.kills = arguments.images, arguments.steps, arguments.kills
        self.rng = random.Random(arguments.seed)
        self._empty_cache()

    def _empty_cache(self) -> None:
        cache = tempfile.mkdtemp(dir=self.folder, prefix="cache")
        os.environ["AVQ_CACHE"] = cache

    def set(self) -> Row:
        """Prepares images into a folder and into the bucket."""
        source, target = self.folder / "images", at(f"{BUCKET}/set")
        assert isinstance(target, RemotePath)
        source.mkdir()
        generate(source, self.images)
        words = "avq.cli", "prepare", str(source)
        flags = "--size", str(SIZE), "--workers", "1"
        here = finish(self.out, *words, str(self.folder / "set"), *flags)
        undisturbed = finish(self.out, *words, f"{BUCKET}/undisturbed", *flags)
        process = start(self.out, *words, str(target), *flags)
        killed = killed_when(process, lambda: any("record" in name for name in target.files()))
        finish(self.out, *words, str(target), *flags)
        files = {path.name: path for path in (self.folder / "set").iterdir()}
        there = self.folder / "fetched"
        target.get({name: there / name for name in target.files()})
        names = {path.name for path in there.iterdir()} | files.keys()
        same = [n for n in names if n in files and _same(files[n], there / n)]
        return {
            "files": len(names),
            "same": len(same),
            "killed": killed,
            "folder_s": here,
            "bucket_s": undisturbed,
        }

    def _train(self, run: str) -> list[str]:
        settings = {
            "data.path": f"{BUCKET}/set",
            "train.steps": self.steps,
            "train.log_every": 1,
            "train.eval_every": self.steps,
            "checkpoint.every": SAVE_EVERY,
        }
        flags = [f"--config.{key}={value}" for key, value in settings.items()]
        return ["avq.main", "--config=ah_vqvae:tiny", *flags, f"--workdir={run}"]

    def run(self) -> Row:
        """Trains undisturbed and killed."""
        undisturbed, run = f"{BUCKET}/runs/undisturbed", f"{BUCKET}/runs/killed"
        seconds = finish(self.out, *self._train(undisturbed))
        phases, resumed = [], []
        for number in range(self.kills):
            self._empty_cache()
            process = start(self.out, *self._train(run))
            putting = bool(number % 2)
            if not killed_when(process, self._moment(run, putting)):
                break
            phases.append("put" if putting else "step")
            resumed += re.findall(r"resuming from step (\d+)", self.out.read_text())
            print(f"killed  phase {phases[-1]}  checkpoints {sorted(_whole(run))}", flush=True)
        self._empty_cache()
        finish(self.out, *self._train(run))
        resumed += re.findall(r"resuming from step (\d+)", self.out.read_text())
        mine, theirs = _state(run, self.steps), _state(undisturbed, self.steps)
        differing = [name for name in mine.keys() | theirs.keys() if mine[name] != theirs[name]]
        return {
            "kills": len(phases),
            "while_putting": phases.count("put"),
            "resumed_from": [int(step) for step in resumed],
            "leaves": len(mine),
            "differing": len(differing),
            "records": "same" if _records(run) == _records(undisturbed) else "differ",
            "undisturbed_s": seconds,
        }

    def _moment(self, run: str, putting: bool) -> Callable[[], bool]:
        """Moment of a kill: while the second new checkpoint is being put, or after a step drawn by
        the seed.
        """
        newest = max(_whole(run), default=0)
        step = min(newest + self.rng.randint(1, 2 * SAVE_EVERY + 1), self.steps)

        def reached() -> bool:
            if putting:
                return max(_whole(run), default=0) > newest and _half_put(run)
            done = re.findall(r"^step (\d+)/", self.out.read_text(), re.MULTILINE)
            return bool(done) and int(done[-1]) >= step

        return reached

    def use(self) -> Row:
        """Evaluates and loads the run."""
        result = self.folder / "eval.json"
        words = "avq.cli", "eval", f"{BUCKET}/runs/killed", "--json", str(result)
        seconds = finish(self.out, *words)
        digests = {avq.load(f"{BUCKET}/runs/{name}").digest for name in ("killed", "undisturbed")}
        psnr = json.loads(result.read_text())["psnr"]
        return {"psnr": psnr, "eval_s": seconds, "models": len(digests)}

    def errors(self) -> Row:
        """Commands that have to be refused in one line, which are printed."""
        prepare = ["avq.cli", "prepare", str(self.folder / "images")]
        train = ["avq.main", "--config=ah_vqvae:tiny", f"--workdir={self.folder / 'no'}"]
        study = self.folder / "study.py"
        study.write_text(STUDY)
        cases: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
            "no bucket": ([*prepare, "s3://other/set"], {}),
            "no bucket, run": (["avq.cli", "eval", "s3://other/run"], {}),
            "no set": ([*train, f"--config.data.path={BUCKET}/nothing"], {}),
            "no run": (["avq.cli", "eval", f"{BUCKET}/nothing"], {}),
            "no credentials": ([*prepare, f"{BUCKET}/a"], dict.fromkeys(CREDENTIALS, "")),
            "no server": ([*prepare, f"{BUCKET}/a"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
            "unknown scheme": ([*prepare, "azure://bucket/set"], {}),
            "no bucket named": ([*prepare, "s3://"], {}),
            "a study": (["avq.cli", "study", str(study), "--out", BUCKET], {}),
        }
        refused = 0
        for name, (words, environment) in cases.items():
            done = subprocess.run(
                [sys.executable, "-m", *words],
                env=os.environ | environment,
                capture_output=True,
                text=True,
            )
            lines = done.stderr.splitlines()
            good = done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ")
            refused += good
            print(f"{name:<16}{done.returncode}  {lines[-1] if lines else ''}", flush=True)
        return {"cases": len(cases), "refused_in_one_line": refused}


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _checkpoints(run: str) -> RemotePath:
    place = at(f"{run}/checkpoints")
    assert isinstance(place, RemotePath)
    return place


def _whole(run: str) -> set[int]:
    """Steps of the checkpoints that have their mark."""
    return {int(n.split("/")[0]) for n in _checkpoints(run).files() if n.endswith(f"/{WHOLE}")}


def _half_put(run: str) -> bool:
    """Whether there is a part of a checkpoint."""
    names = _checkpoints(run).files()
    return any(f"{name.split('/')[0]}/{WHOLE}" not in names for name in names)


def _state(run: str, steps: int) -> dict[str, Any]:
    with Checkpoints(local(run), read_only=True) as checkpoints:
        _, state = checkpoints.restore_arrays(steps)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()}


def _records(run: str) -> list[Any]:
    """What is logged of each step but speeds."""
    lines = (local(run) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(each["step"], each.get("train/loss"), each.get("eval/psnr")) for each in records]


def main() -> None:
    parser = make_parser(__doc__, studies=STUDIES)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--server", default=moto(), help="moto's program, default: as found")
    arguments = parser.parse_args()
    if not arguments.server:
        raise SystemExit("moto_server is missing. Run: pip install 'moto[s3]' flask flask-cors")
    jax.config.update("jax_platforms", "cpu")
    logging.getLogger("absl").setLevel(logging.ERROR)
    results: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder, server(arguments.server):
        study = Study(Path(folder), arguments)
        for name in arguments.study:
            results[name] = getattr(study, name)()
            print(name, *(f"{key} {value}" for key, value in results[name].items()), flush=True)
            write_json(arguments.json, results)


if __name__ == "__main__":
    main()
