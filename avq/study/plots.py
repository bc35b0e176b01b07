"""Plots of a study: psnr over steps, over training time and over bits."""

from collections.abc import Sequence

import numpy as np

from avq.report.charts import Point, line_chart, points
from avq.study.definition import Study
from avq.study.results import Row, last_rows

SHOWN = 8  # systems; more lines than colours cannot be told apart


def plots(rows: Sequence[Row], study: Study) -> dict[str, str]:
    """SVG by name, of each data, of the baseline and the first other systems of the study.

    Lines are means over the seeds that reached an evaluation; points over bits are means with the
    lowest and highest seed.
    """
    charts = {}
    others = [system for system in study.systems if system != study.baseline]
    systems = [study.baseline, *others[: SHOWN - 1]]
    for data in study.data:
        here = {
            system: [r for r in rows if r["data"] == data and r["system"] == system]
            for system in systems
        }
        here = {system: found for system, found in here.items() if found}
        if not here:
            continue
        for key, label in (("step", "steps"), ("seconds", "seconds of training")):
            lines = {system: _line(found, key) for system, found in here.items()}
            charts[f"psnr_over_{key}-{data}"] = line_chart(lines, label, "psnr, dB")
        ends = {system: [_end(last_rows(found))] for system, found in here.items()}
        charts[f"psnr_over_bits-{data}"] = points(ends, "bits a pixel", "psnr, dB")
    return charts


def _line(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    by_step: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        if row[key] is not None:
            by_step.setdefault(row["step"], []).append(row)
    xs, ys = (
        [float(np.mean([row[k] for row in group])) for group in by_step.values()]
        for k in (key, "psnr")
    )
    return xs, ys


def _end(rows: Sequence[Row]) -> Point:
    values = [row["psnr"] for row in rows]
    bits = float(np.mean([row["bits_per_pixel"] for row in rows]))
    return Point(bits, float(np.mean(values)), min(values), max(values))
