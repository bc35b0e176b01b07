"""Invariance of a training step to the number of devices and processes.

    python -m benchmarks.invariance [--json FILE]

Two steps of `configs/ah_vqvae.py:tiny` at its own batch of 8, of smooth images, on 1, 2, 4 and 8
host devices of one process, and on two processes of two devices each. Every case begins both steps
from the same bits: the first, which fills the codebooks, from the initial state, the second from
the state of one device after the first. All are compared with one device; the worse step is
reported.

The optimiser is gradient descent at rate 1. The difference of a leaf is its largest one, relative
to the leaf's largest entry plus 1e-4: the bias of a convolution before a batch norm has a true
gradient of 0, and rounding in its place.

A gradient jumps where rounding moves an activation across the kink of a ReLU, or a latent to
another code. The case of one device 'nudged' shows that effect alone: every parameter is replaced
by the next larger or smaller float, and the worst of eight such draws is taken. `choices_changed`
counts the latents of both steps that chose another code. No code is old enough in two steps to be
revived.
"""

import argparse
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from PIL import Image

from avq import parallel, tasks
from avq.train.loop import compile_step
from avq.train.state import TrainState, init_state
from avq.train.step import StepMetrics
from benchmarks._common import Row, make_parser, own_command, write_json

# Devices are those of all processes; the others are compared with the first case.
CASES: list[Row] = [
    {"devices": 1, "processes": 1, "nudged": False},
    {"devices": 1, "processes": 1, "nudged": True},
    *({"devices": n, "processes": 1, "nudged": False} for n in (2, 4, 8)),
    {"devices": 4, "processes": 2, "nudged": False},
]
QUANTITIES = ("gradients", "batch_stats", "codebook", "metrics")
PIXEL_VARIANCE, FLOOR, DRAWS = 0.3, 1e-4, 8
Arrays = dict[str, np.ndarray]


def smooth_batch(size: int, n: int) -> np.ndarray:
    """Random images without high frequencies, uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)
    smooth = (Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC) for c in coarse)
    return np.stack([np.asarray(image) for image in smooth])


def run_case(
    folder: str, devices: int, processes: int, nudged: bool, process: int, port: int
) -> None:
    """Runs both steps in this process, where JAX must not have started. The first process writes
    the arrays into the folder.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices // processes)
    jax.config.update("jax_compilation_cache_dir", str(Path(folder, "cache")))
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    task: Any = tasks.make_task(tasks.load(["--config=configs/ah_vqvae.py:tiny"]))
    task.pixel_variance = PIXEL_VARIANCE
    mesh, share = parallel.make_mesh(), task.batch_size // processes
    # The momentum of 0 keeps the gradient itself in the optimiser's state; the change of a
    # parameter would carry the rounding of the parameter.
    optimizers = dict.fromkeys(task.learning_rates, optax.sgd(1.0, momentum=0.0))
    images = smooth_batch(task.data.image_size, task.batch_size)[process * share :][:share]
    step = compile_step(task, optimizers, mesh)
    frozen = jax.device_put(dict(task.frozen()), parallel.replicated(mesh))
    state: Any = parallel.init_placed(partial(init_state, task, optimizers), mesh, fsdp=False)
    arrays: Arrays = {}
    for number in (1, 2):
        before = jax.device_get(state)
        if number == 2:
            before = state_of_first_case(before, Path(folder, "state.npz"))
        results = []
        for host_state in nudges(before) if nudged else [before]:
            state = jax.device_put(host_state, parallel.replicated(mesh))
            state, metrics = step(state, frozen, parallel.shard_batch({"image": images}, mesh))
            results.append(quantities(state, metrics))
        arrays |= {f"{number}/{name}": np.stack([r[name] for r in results]) for name in results[0]}
    if process == 0:
        # NumPy's stub takes any keyword for its flag `allow_pickle`.
        np.savez(Path(folder, "arrays.npz"), **arrays)  # type: ignore[arg-type]


def state_of_first_case(state: TrainState, file: Path) -> TrainState:
    """The state that the first case was in; that case writes the file."""
    leaves, tree = jax.tree.flatten(state)
    if not file.exists():
        np.savez(file, *leaves)
    with np.load(file) as saved:
        arrays = [saved[f"arr_{i}"] for i in range(len(leaves))]
    first: TrainState = jax.tree.unflatten(tree, arrays)
    return first


def nudges(state: TrainState) -> Iterator[TrainState]:
    """Yields the state with every parameter replaced by one of its neighbours."""
    for draw in range(DRAWS):
        nudged = partial(neighbours, np.random.default_rng(draw))
        players = {
            name: replace(player, params=jax.tree.map(nudged, player.params))
            for name, player in state.players.items()
        }
        yield replace(state, players=players)


def neighbours(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    """Next smaller or larger float of each entry."""
    directions = rng.choice(np.array([-np.inf, np.inf], a.dtype), a.shape)
    return np.asarray(np.nextafter(a, directions))


def quantities(state: TrainState, metrics: StepMetrics) -> Arrays:
    """Arrays on the host, named by quantity and leaf."""
    players = state.players
    tree = {
        "gradients": {name: optax.tree.get(p.opt_state, "trace") for name, p in players.items()},
        "batch_stats": {name: p.model_state["batch_stats"] for name, p in players.items()},
        "codebook": players["vqvae"].model_state["codebook"],
        "metrics": metrics.means | metrics.counts,
    }
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def arrays_of(case: Row, folder: Path) -> Arrays:
    """Starts the processes of a case and returns its arrays.

    Raises:
        SystemExit: when a process fails; the others would wait for it.
    """
    common = case | {"folder": str(folder), "port": free_port()}
    processes = [
        subprocess.Popen(own_command("--process", json.dumps(common | {"process": i})))
        for i in range(case["processes"])
    ]
    try:
        codes: list[int | None] = [None]
        while None in codes:
            time.sleep(0.1)
            codes = [process.poll() for process in processes]
            if any(codes):
                raise SystemExit(f"A process of the case {case} has failed; see above.")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with np.load(folder / "arrays.npz") as arrays:
        return dict(arrays)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def compare(arrays: Arrays, expected: Arrays, quantity: str) -> Row:
    """The leaf that differs most over both steps, and the median of all leaves."""
    differences = {
        name: float(np.abs(arrays[name] - value).max() / (np.abs(value).max() + FLOOR))
        for name, value in expected.items()
        if name.split("/")[1] == quantity
    }
    worst = max(differences, key=lambda name: differences[name])
    step, _, leaf = worst.split("/", 2)
    return {
        "quantity": quantity,
        "largest_relative_difference": differences[worst],
        "median": statistics.median(differences.values()),
        "step": int(step),
        "leaf": leaf,
    }


def choices_changed(arrays: Arrays, expected: Arrays) -> int:
    """Latents that chose another code, as far as the counts of the codes show it."""
    names = [name for name in expected if "metrics/codes" in name]
    changed = sum(np.abs(arrays[n] - expected[n]).sum(axis=-1) / 2 for n in names)
    return round(float(np.max(changed)))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--process", type=json.loads, help=argparse.SUPPRESS)  # of a case, here
    arguments = parser.parse_args()
    if arguments.process is not None:
        run_case(**arguments.process)
        return
    rows: list[Row] = []
    print("devices  processes  nudged  quantity      largest   median  changed  step  leaf")
    with tempfile.TemporaryDirectory() as folder:
        expected = arrays_of(CASES[0], Path(folder))
        for case in CASES[1:]:
            arrays = arrays_of(case, Path(folder))
            changed = {"choices_changed": choices_changed(arrays, expected)}
            for quantity in QUANTITIES:
                rows.append(case | compare(arrays, expected, quantity) | changed)
                print_row(rows[-1])
    write_json(arguments.json, {"rows": rows})


def print_row(row: Row) -> None:
    """Prints a line of the table."""
    print(
        f"{row['devices']:>7}{row['processes']:>11}{row['nudged']!s:>8}  {row['quantity']:<12}"
        f"{row['largest_relative_difference']:>9.1e}{row['median']:>9.1e}"
        f"{row['choices_changed']:>9}{row['step']:>6}  {row['leaf']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
