"""Results of a study: one row an evaluation in `results.csv`, the table and the plots."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from avq.errors import InputError
from avq.json_files import replaced
from avq.report.training import read_records, training_seconds
from avq.study.definition import Job, Study

RESULTS = "results.csv"
KEYS = ("system", "data", "seed", "step")  # which evaluation a row is of
Row = dict[str, Any]


def read_rows(file: Path) -> list[Row]:
    """The rows of a csv, numbers as such; none where there is no file.

    Raises:
        InputError: for a file that is no such csv.
    """
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [
            {key: _value(key, text) for key, text in row.items()} for row in csv.DictReader(lines)
        ]
    if rows and not set(KEYS) <= rows[0].keys():
        raise InputError(f"{str(file)!r} is no table of a study: its columns lack {KEYS}.")
    return rows


def _value(key: str | None, text: Any) -> Any:
    if key in ("system", "data", "config"):
        return text
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None  # a measure that this run does not have
    return int(number) if number.is_integer() and "." not in text else number


def write_rows(file: Path, rows: Iterable[Row], study: Study) -> None:
    """Replaces the csv, in the order of the study whatever the order in which runs ended."""
    systems = {name: place for place, name in enumerate(study.systems)}
    ordered = sorted(
        rows,
        key=lambda row: (
            row["data"],
            systems.get(row["system"], len(systems)),
            row["system"],
            row["seed"],
            row["step"],
        ),
    )
    columns = dict.fromkeys(key for row in ordered for key in row)
    with replaced(file) as new, new.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)


def rows_of_run(run: Path, job: Job) -> list[Row]:
    """The evaluations of a run, from its `metrics.jsonl`. Lists by level become a column each.
    `seconds` are those of `training_seconds`.
    """
    rows, records = [], read_records(run, job.steps)
    for record in records:
        measures = {
            key.removeprefix("eval/"): value
            for key, value in record.items()
            if key.startswith("eval/")
        }
        if measures:
            step: int = record["step"]
            seconds = training_seconds(records, job.batch_size, step)
            place = {"system": job.system, "data": job.data, "seed": job.seed, "step": step}
            cost = {
                "images": step * job.batch_size,
                "seconds": None if seconds is None else round(seconds, 1),
            }
            rows.append({**place, "config": job.digest, **cost, **_flat(measures)})
    return rows


def _flat(measures: Mapping[str, Any]) -> Row:
    row: Row = {}
    for key, value in measures.items():
        for level, entry in enumerate(value if isinstance(value, list) else [value], start=1):
            name = f"{key}_{level}" if isinstance(value, list) else key
            row[name] = round(entry, 5) if isinstance(entry, float) else entry
    return row


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """The last evaluation of every run."""
    last: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        run = tuple(row[key] for key in KEYS[:3])
        if run not in last or last[run]["step"] < row["step"]:
            last[run] = row
    return list(last.values())


def bits_key(row: Row) -> str:
    """Bits a pixel of a run as `baselines.json` names them."""
    return f"{row['bits_per_pixel']:.4f}"


def table(
    rows: Sequence[Row],
    baselines: Mapping[str, Mapping[str, Mapping[str, Row]]],
    study: Study,
) -> str:
    """Markdown: for every system the mean of psnr over seeds with its spread, the difference
    to the baseline over the seeds that both have, with its 95 % interval and the p-value of a
    paired t-test, the difference to patch k-means at equal bits, and what it costs. Then the
    classical baselines.

    Args:
        rows: of the csv.
        baselines: by data, bits a pixel (see `bits_key`) and name, as `avq eval --json` has them.
        study: whose systems are shown, in its order.
    """
    finals, lines = last_rows(rows), []
    for data in study.data:
        here = [row for row in finals if row["data"] == data]
        base = {row["seed"]: row["psnr"] for row in here if row["system"] == study.baseline}
        classical = baselines.get(data, {})
        head = f"psnr | to {study.baseline} | to patch k-means | ssim | usage | rank | bits/px"
        lines += [f"### {data}", "", f"| system | seeds | {head} | steps | minutes |"]
        lines.append("| --- " * 11 + "|")
        for system in study.systems:
            runs = [row for row in here if row["system"] == system]
            if runs:
                to_base = "" if system == study.baseline else _to_base(runs, base)
                lines.append(_line(system, runs, to_base, classical))
        lines += ["", *_baseline_lines(classical), ""]
    return "\n".join(lines)


def _to_base(runs: Sequence[Row], base: Mapping[int, float]) -> str:
    return difference([(row["psnr"], base[row["seed"]]) for row in runs if row["seed"] in base])


def _line(
    system: str,
    runs: Sequence[Row],
    to_base: str,
    classical: Mapping[str, Mapping[str, Row]],
) -> str:
    values = np.array([row["psnr"] for row in runs])
    minutes = [row["seconds"] / 60 for row in runs if row["seconds"] is not None]
    equal = classical.get(bits_key(runs[0]), {}).get("patch_kmeans")
    cells = [
        system,
        str(len(runs)),
        f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""),
        to_base,
        f"{values.mean() - equal['psnr']:+.2f}" if equal else "",
        _mean(runs, "ssim", "{:.3f}"),
        _by_level(runs, "usage", "{:.0%}"),
        _by_level(runs, "effective_rank", "{:.1f}"),
        _mean(runs, "bits_per_pixel", "{:.3f}"),
        f"{runs[0]['step']}",
        f"{np.mean(minutes):.1f}" if minutes else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _baseline_lines(classical: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """The classical baselines at each number of bits that a system has."""
    if not classical:
        return []
    lines = ["| baseline | at | psnr | ssim | bits/px |", "| --- " * 5 + "|"]
    for bits, by_name in classical.items():
        for name, values in by_name.items():
            figures = f"{values['psnr']:.2f} | {values['ssim']:.3f}"
            lines.append(f"| {name} | {bits} | {figures} | {values['bits_per_pixel']:.3f} |")
    return lines


def difference(pairs: Sequence[tuple[float, float]]) -> str:
    """Mean difference of pairs, its 95 % interval and the p-value of a paired t-test.

    Reference: Student (1908).
    """
    if not pairs:
        return ""
    gaps = np.array([a - b for a, b in pairs])
    mean = f"{gaps.mean():+.2f}"
    if len(gaps) < 2:
        return mean
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * error
    p = 2 * float(stats.t.sf(abs(gaps.mean()) / error, len(gaps) - 1)) if error else 0.0
    return f"{mean} [{gaps.mean() - half:+.2f}, {gaps.mean() + half:+.2f}] p {p:.3f}"


def _mean(runs: Sequence[Row], key: str, form: str) -> str:
    values = [row[key] for row in runs if row.get(key) is not None]
    return form.format(np.mean(values)) if values else ""


def _by_level(runs: Sequence[Row], key: str, form: str) -> str:
    levels = sorted(name for name in runs[0] if name.startswith(f"{key}_"))
    return "/".join(filter(None, (_mean(runs, name, form) for name in levels)))
