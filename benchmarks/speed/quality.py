"""Quality by time: trains systems for the same minutes and says when each reached a target.

    python -m benchmarks.quality --minutes N --out FOLDER [--data PATH] [--seeds N] [--target DB]
        [--system "NAME --config.KEY=VALUE ..." ...] [--json FILE]

A study (`avq study`) in the folder, which the same command continues: steps by each system's step
time on this machine, learning rates that fall to 0 at the end. Seconds are those of the steps,
without compilation, evaluation and saving; `kmeans_psnr` is what k-means of raw patches reaches at
the system's bits.
"""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from avq.data.dataset import ImageSet
from avq.data.pipeline import eval_batches
from avq.evaluate.metrics.psnr import psnr
from avq.json_files import read_json
from avq.pixels import to_float, to_uint8
from avq.study import Study
from avq.study.results import RESULTS, bits_key, read_rows
from avq.study.work import BASELINES, Work
from avq.train.stop import stop_on_signal
from benchmarks._common import Row, make_parser, write_json

SYSTEMS = ("ah_vqvae_plus:tiny", "ah_vqvae:tiny")
DATA = "images"
EVALUATIONS = 20


def quality_rows(out: Path, target: float) -> list[Row]:
    """A row for each run of a study's folder.

    Args:
        out: the folder.
        target: PSNR in dB.
    """
    baselines: Any = read_json(out / BASELINES) or {}
    runs: dict[tuple[Any, Any], list[Row]] = {}
    for row in read_rows(out / RESULTS):
        runs.setdefault((row["system"], row["seed"]), []).append(row)
    rows = []
    for evaluations in runs.values():
        at_its_bits = baselines.get(DATA, {}).get(bits_key(evaluations[-1]), {})
        kmeans_psnr = at_its_bits.get("patch_kmeans", {}).get("psnr")
        rows.append(quality_row(evaluations, target, kmeans_psnr))
    return rows


def quality_row(evaluations: Sequence[Row], target: float, kmeans_psnr: float | None = None) -> Row:
    """A run's row.

    Args:
        evaluations: of the run, as in a study's `results.csv`.
        target: PSNR in dB.
        kmeans_psnr: what k-means of patches reaches at the system's bits.
    """
    last = evaluations[-1]
    reached = [row["seconds"] for row in evaluations if row["psnr"] >= target]
    return {
        "system": last["system"],
        "seed": last["seed"],
        "seconds_to_target": reached[0] if reached else None,
        "seconds": last["seconds"],
        "psnr": last["psnr"],
        "bits_per_pixel": last["bits_per_pixel"],
        "kmeans_psnr": kmeans_psnr,
    }


def mean_psnr(
    reconstruct: Callable[[UInt8[np.ndarray, "b s s 3"]], Float[np.ndarray, "b s s 3"]],
    images: ImageSet,
    image_size: int,
    batch_size: int,
) -> float:
    """Mean PSNR over the readable images, as `avq.evaluate` measures it, of any autoencoder.

    Args:
        reconstruct: takes pixels, returns those in about [-1, 1].
        images: to reconstruct.
        image_size: side of their squares, pixels.
        batch_size: of a call.
    """
    values = []
    for batch, mask in eval_batches(images, image_size=image_size, batch_size=batch_size):
        targets = to_float(jnp.asarray(batch["image"]))
        made = to_float(to_uint8(jnp.asarray(reconstruct(batch["image"]))))
        values.append(np.asarray(psnr(made, targets))[mask])
    return float(np.mean(np.concatenate(values)))


def train(out: Path, systems: Sequence[str], path: str, minutes: float, seeds: int = 1) -> int:
    """Trains what a study's folder lacks.

    Args:
        out: the folder.
        systems: names of configs, each with settings behind it.
        path: of the images.
        minutes: of training a run.
        seeds: number of runs of each system.

    Returns:
        The exit code of `avq study`.
    """
    study = Study(
        systems={system: shlex.split(system) for system in systems},
        baseline=systems[-1],
        data={DATA: path},
        seeds=seeds,
        seconds=60 * minutes,
        evaluations=EVALUATIONS,
    )
    out.mkdir(parents=True, exist_ok=True)
    with stop_on_signal() as stop:
        stop.at_once = False
        return Work(study, out, print).run(stop)


def print_rows(rows: Sequence[Row]) -> None:
    """Prints a line for each row."""
    for row in rows:
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")


def main() -> None:
    """Trains what is not done and prints a row for each run."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="of training a run")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--data", default="photographs", metavar="PATH")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--target", type=float, default=23.8, metavar="DB")
    parser.add_argument("--system", nargs="+", default=SYSTEMS, metavar="NAME")
    arguments = parser.parse_args()
    code = train(
        arguments.out, arguments.system, arguments.data, arguments.minutes, arguments.seeds
    )
    rows = quality_rows(arguments.out, arguments.target)
    print_rows(rows)
    write_json(arguments.json, {"target": arguments.target, "rows": rows})
    raise SystemExit(code)


if __name__ == "__main__":
    main()
