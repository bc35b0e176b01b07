"""Quality by time: trains systems for the same minutes and says when each reached a target.

    python -m benchmarks.quality --minutes N --out FOLDER [--data PATH] [--seeds N] [--target DB]
        [--system NAME ...] [--json FILE]

A study (`avq study`) in the folder, which the same command continues: steps by each system's step
time on this machine, learning rates that fall to 0 at the end. Seconds are those of the steps,
without compilation, evaluation and saving; `kmeans_psnr` is what k-means of raw patches reaches at
the system's bits.
"""

from pathlib import Path
from typing import Any

from avq.json_files import read_json
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
    for (system, seed), evaluations in runs.items():
        last = evaluations[-1]
        reached = [row["seconds"] for row in evaluations if row["psnr"] >= target]
        at_its_bits = baselines.get(DATA, {}).get(bits_key(last), {})
        rows.append(
            {
                "system": system,
                "seed": seed,
                "seconds_to_target": reached[0] if reached else None,
                "seconds": last["seconds"],
                "psnr": last["psnr"],
                "bits_per_pixel": last["bits_per_pixel"],
                "kmeans_psnr": at_its_bits.get("patch_kmeans", {}).get("psnr"),
            }
        )
    return rows


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
    study = Study(
        systems={name: [name] for name in arguments.system},
        baseline=arguments.system[-1],
        data={DATA: arguments.data},
        seeds=arguments.seeds,
        seconds=60 * arguments.minutes,
        evaluations=EVALUATIONS,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with stop_on_signal() as stop:
        stop.at_once = False
        code = Work(study, arguments.out, print).run(stop)
    rows = quality_rows(arguments.out, arguments.target)
    for row in rows:
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
    write_json(arguments.json, {"target": arguments.target, "rows": rows})
    raise SystemExit(code)


if __name__ == "__main__":
    main()
