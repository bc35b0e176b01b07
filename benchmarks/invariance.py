"""How far the number of devices changes what a training step computes.

    python -m benchmarks.invariance --json FILE

Two steps of `configs/ah_vqvae.py:tiny` at its own batch of 8, of smooth images, on 1, 2, 4 and 8
host devices of one process, and on two processes of two devices each. Every case begins both steps
from the same bits: the first, which fills the codebooks, from the initial state, the second from
what one device made of the first. All are compared with one device, and the worse step is reported.

The optimiser is gradient descent at rate 1. The difference of a leaf is its largest one, relative
to the leaf's largest entry plus 1e-4: the bias of a convolution before a batch norm has a true
gradient of 0, and rounding in its place.

A gradient jumps where rounding moves an activation across the kink of a ReLU, or a latent to
another code. What that alone does is the case of one device again, 'nudged': every parameter is the
next larger or smaller float, and of eight such draws the worst is taken. `choices_changed` counts
the latents of both steps that chose another code. No code is old enough in two steps to be revived.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
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

from avq import config as configs
from avq import parallel
from avq.train.system import build, make_step

# Devices are those of all processes; the first case is what the others are compared with.
CASES: list[dict[str, Any]] = [
    {"devices": 1, "processes": 1, "nudged": False},
    {"devices": 1, "processes": 1, "nudged": True},
    *({"devices": n, "processes": 1, "nudged": False} for n in (2, 4, 8)),
    {"devices": 4, "processes": 2, "nudged": False},
]
QUANTITIES = ("gradients", "batch_stats", "codebook", "metrics")
PIXEL_VARIANCE, FLOOR, DRAWS = 0.3, 1e-4, 8
Arrays = dict[str, np.ndarray]


def smooth_images(size: int, n: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)
    smooth = (Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC) for c in coarse)
    return np.stack([np.asarray(image) for image in smooth])


def run_case(
    folder: str, devices: int, processes: int, nudged: bool, process: int, port: int
) -> None:
    """Both steps, in this process, where JAX must not have started. The first process writes the
    arrays into the folder.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices // processes)
    jax.config.update("jax_compilation_cache_dir", str(Path(folder, "cache")))
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    config = configs.load(["--config=configs/ah_vqvae.py:tiny"])
    size, part = config.data.image_size, config.data.batch_size // processes
    system, mesh = build(config), parallel.make_mesh()
    # The momentum of 0 keeps the gradient itself in the optimiser's state; the change of a
    # parameter would carry the rounding of the parameter.
    system.optimizers = dict.fromkeys(system.optimizers, optax.sgd(1.0, momentum=0.0))
    images = smooth_images(size, config.data.batch_size)[process * part :][:part]
    step = parallel.compile_step(make_step(system, config, PIXEL_VARIANCE), mesh)
    state: Any = parallel.everywhere(partial(system.init, config.seed, size), mesh)
    arrays: Arrays = {}
    for number in (1, 2):
        start = jax.device_get(state)
        if number == 2:
            start = one_and_the_same(start, Path(folder, "start.npz"))
        found = []
        for begun in nudges(start) if nudged else [start]:
            begun = jax.device_put(begun, parallel.replicated(mesh))
            state, metrics = step(begun, parallel.place(images, mesh))
            found.append(quantities(state, metrics))
        arrays |= {f"{number}/{name}": np.stack([f[name] for f in found]) for name in found[0]}
    if process == 0:
        np.savez(Path(folder, "arrays.npz"), **arrays)  # type: ignore[arg-type]


def one_and_the_same(state: Any, file: Path) -> Any:
    """The state that the first case was in, which keeps it in a file."""
    leaves, tree = jax.tree.flatten(state)
    if not file.exists():
        np.savez(file, *leaves)
    with np.load(file) as kept:
        return jax.tree.unflatten(tree, [kept[f"arr_{i}"] for i in range(len(leaves))])


def nudges(state: Any) -> Iterator[Any]:
    """The state with every parameter replaced by one of its neighbours."""
    for draw in range(DRAWS):
        nudged = partial(neighbours, np.random.default_rng(draw))
        players = {
            name: replace(player, params=jax.tree.map(nudged, player.params))
            for name, player in (("vqvae", state.vqvae), ("discriminator", state.discriminator))
        }
        yield replace(state, **players)


def neighbours(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    return np.nextafter(a, rng.choice(np.array([-np.inf, np.inf], a.dtype), a.shape))


def quantities(state: Any, metrics: Any) -> Arrays:
    """Arrays on the host, named by quantity and leaf."""
    players = {"vqvae": state.vqvae, "discriminator": state.discriminator}
    tree = {
        "gradients": {name: optax.tree.get(p.opt_state, "trace") for name, p in players.items()},
        "batch_stats": {name: p.model_state["batch_stats"] for name, p in players.items()},
        "codebook": state.vqvae.model_state["codebook"],
        "metrics": metrics,
    }
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def arrays_of(case: dict[str, Any], folder: Path) -> Arrays:
    """Of a case, whose processes are started here.

    Raises:
        SystemExit: when one of them fails; the others would wait for it.
    """
    common = case | {"folder": str(folder), "port": free_port()}
    command = [sys.executable, "-m", "benchmarks.invariance", "--process"]
    started = [
        subprocess.Popen([*command, json.dumps(common | {"process": i})])
        for i in range(case["processes"])
    ]
    try:
        codes: list[int | None] = [None]
        while None in codes:
            time.sleep(0.1)
            codes = [process.poll() for process in started]
            if any(codes):
                raise SystemExit(f"A process of the case {case} has failed; see above.")
    finally:
        for process in started:
            process.kill()
            process.wait()
    with np.load(folder / "arrays.npz") as arrays:
        return dict(arrays)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def compare(arrays: Arrays, expected: Arrays, quantity: str) -> dict[str, Any]:
    """The leaf that differs most over both steps, and the median of all leaves."""
    found = {
        name: float(np.abs(arrays[name] - value).max() / (np.abs(value).max() + FLOOR))
        for name, value in expected.items()
        if name.split("/")[1] == quantity
    }
    worst = max(found, key=lambda name: found[name])
    step, _, leaf = worst.split("/", 2)
    return {
        "quantity": quantity,
        "largest_relative_difference": found[worst],
        "median": statistics.median(found.values()),
        "step": int(step),
        "leaf": leaf,
    }


def choices_changed(arrays: Arrays, expected: Arrays) -> int:
    """Latents that chose another code, as far as the numbers of choices of the codes show it."""
    names = [name for name in expected if name.endswith("metrics/code_counts")]
    changed = sum(np.abs(arrays[n] - expected[n]).sum(axis=(1, 2)) / 2 for n in names)
    return round(float(np.max(changed)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--process", type=json.loads, help="one process of one case, here")
    arguments = parser.parse_args()
    if arguments.process is not None:
        run_case(**arguments.process)
        return
    rows: list[dict[str, Any]] = []
    print("devices  processes  nudged  quantity      largest   median  changed  step  leaf")
    with tempfile.TemporaryDirectory() as folder:
        expected = arrays_of(CASES[0], Path(folder))
        for case in CASES[1:]:
            arrays = arrays_of(case, Path(folder))
            for quantity in QUANTITIES:
                row = case | compare(arrays, expected, quantity)
                row["choices_changed"] = choices_changed(arrays, expected)
                rows.append(row)
                print(
                    f"{case['devices']:>7}{case['processes']:>11}{case['nudged']!s:>8}"
                    f"  {quantity:<12}{row['largest_relative_difference']:>9.1e}"
                    f"{row['median']:>9.1e}{row['choices_changed']:>9}{row['step']:>6}"
                    f"  {row['leaf']}",
                    flush=True,
                )
    if arguments.json is not None:
        result = {"jax": jax.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
