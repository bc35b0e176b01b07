"""Plots of a study: a measure over steps, over training time and over bits."""

from collections.abc import Sequence

import numpy as np

from avq.report.charts import Point, line_chart, points
from avq.study.definition import Study
from avq.study.results import Row, last_rows

SHOWN = 8  # systems; more lines than colours cannot be told apart


def plots(rows: Sequence[Row], study: Study, measure: str = "psnr") -> dict[str, str]:
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
            lines = {system: _line(found, key, measure) for system, found in here.items()}
            charts[f"{measure}_over_{key}-{data}"] = line_chart(lines, label, measure)
        ends = {system: [_end(last_rows(found), measure)] for system, found in here.items()}
        charts[f"{measure}_over_bits-{data}"] = points(ends, "bits a pixel", measure)
    return charts


def _line(rows: Sequence[Row], key: str, measure: str) -> tuple[list[float], list[float]]:
    steps = sorted({row["step"] for row in rows})
    means = [
        [float(np.mean([row[k] for row in rows if row["step"] == step])) for step in steps]
        for k in (key, measure)
    ]
    return means[0], means[1]


def _end(rows: Sequence[Row], measure: str) -> Point:
    values = [row[measure] for row in rows]
    bits = float(np.mean([row["bits_per_pixel"] for row in rows]))
    return Point(bits, float(np.mean(values)), min(values), max(values))
