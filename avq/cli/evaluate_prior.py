"""`avq eval` of the run of a prior."""

import sys
from pathlib import Path

from avq.cli.app import write_page


def is_prior(run: Path) -> bool:
    """Whether a folder is the run of a prior."""
    from avq.apply.prior import PLAYER
    from avq.config import read_config

    return (read_config(run) or {}).get("task") == PLAYER


def evaluate_prior(
    run: Path, data: str, step: int | None, json_file: Path | None, report_file: Path | None
) -> None:
    """Measures a prior, prints its figures and writes its files.

    Args:
        run: its folder.
        data: folder of codes, where those of the run have moved; '' for these.
        step: of the checkpoint; None for the best.
        json_file: for the measures.
        report_file: for a page.
    """
    from tqdm import tqdm

    from avq import cpu, parallel
    from avq.apply.code_shards import read
    from avq.apply.prior import load_prior
    from avq.config import read_config
    from avq.evaluate.generation import MEANINGS, Split, measure_prior
    from avq.json_files import write_json
    from avq.report.prior_page import in_words, prior_page
    from avq.report.report import Report, environment
    from avq.report.text import shown
    from avq.report.training import read_records
    from avq.settings import construct
    from avq.tasks.prior_data import CodeData, CodeSettings, open_codes

    cpu.keep_memory()
    prior, config = load_prior(run, step), read_config(run)
    assert config is not None
    settings = construct(CodeSettings, config["data"])
    if data:
        read(data, "test")  # images would be encoded into the run's folder
    codes = CodeData(
        open_codes(data or settings.path, prior.tokenizer, run), prior.tokenizer, settings, 0
    )
    train, test = (Split(part.codes, part.labels) for part in (codes.train, codes.test))
    with tqdm(unit="img", disable=not sys.stderr.isatty()) as bar:
        generated = measure_prior(prior, train, test, on_images=bar.update)
    values = generated.values
    for name, value in values.items():
        if not isinstance(value, dict):
            ends = values["interval"].get(name)
            beside = f"   95 %: {shown(ends[0])} to {shown(ends[1])}" if ends else ""
            print(f"{name:<30}{shown(value)}{beside}")
    print(in_words(values["nearest_ratio"]))
    if json_file:
        write_json(json_file, values)
    if report_file:
        about = environment(parallel.device_in_words(parallel.make_mesh()))
        records = read_records(run, prior.step)
        report = Report(str(run), values, MEANINGS, config, records, about)
        write_page(report_file, prior_page(report, generated), "report")
