"""Training curves and cost, from a run's metrics.jsonl."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from avq.report.charts import line_chart

Record = Mapping[str, Any]


def read_records(run: Path, step: int) -> list[Record]:
    """Records of a run's metrics.jsonl up to a step; none where there is no such file. Lines that
    are no records, such as one cut off in the middle of a write, are left out.
    """
    path = run / "metrics.jsonl"
    records = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return [record for record in records if record["step"] <= step]


def curves(records: Sequence[Record]) -> dict[str, str]:
    """Charts over training by heading: loss, psnr of evaluations, perplexity, bits of a prior."""
    loss = _series(records, {"train/loss": "loss", "train/reconstruction": "reconstruction"})
    psnr = _series(records, {"eval/psnr": ""})
    perplexity = _series(records, {"train/perplexity": "level"})
    bits = {"train/bits_per_code": "training step", "eval/bits_per_code": "test"}
    charts = {
        "Loss": (loss, "loss"),
        "PSNR of the test images": (psnr, "psnr, dB"),
        "Perplexity of the codes": (perplexity, "perplexity"),
        "Bits of a code": (_series(records, bits), "bits a code"),
    }
    return {title: line_chart(s, "step", label) for title, (s, label) in charts.items() if s}


def training_seconds(
    records: Sequence[Record], batch_size: int, step: int | None = None
) -> float | None:
    """Seconds of the training steps, without compilation, evaluation and saving, from the speed of
    each interval; None where an interval has none.

    Args:
        records: of the run.
        batch_size: images in a batch.
        step: the last that counts, which may lie inside an interval; None for the last of all.
    """
    seconds, before = 0.0, 0
    for record in records:
        if "train/loss" not in record:
            continue
        if step is not None and before >= step:
            break
        speed = record.get("train/images_per_second")
        if not isinstance(speed, int | float) or speed <= 0:
            return None
        last = record["step"] if step is None else min(record["step"], step)
        seconds += (last - before) * batch_size / speed
        before = record["step"]
    return seconds or None


def _series(
    records: Sequence[Record], keys: Mapping[str, str]
) -> dict[str, tuple[list[float], list[float]]]:
    """Values over steps by name: `keys` maps keys of the records to names, to which a list adds the
    number of the level.
    """
    series: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        for key, name in keys.items():
            value = record.get(key)
            entries = value if isinstance(value, list) else [value]
            for level, entry in enumerate(entries, start=1):
                if isinstance(entry, int | float):
                    label = f"{name} {level}" if isinstance(value, list) else name
                    xs, ys = series.setdefault(label, ([], []))
                    xs.append(float(record["step"]))
                    ys.append(float(entry))
    return series
