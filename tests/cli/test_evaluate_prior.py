"""`avq eval` of the run of a prior: its figures and its page; and what it refuses."""

import json
import shutil

import pytest

from avq.report.prior_page import in_words


@pytest.fixture(scope="module")
def evaluated(prior_run, invoke, tmp_path_factory):
    """Output of `avq eval`, its JSON and its page."""
    folder = tmp_path_factory.mktemp("evaluated")
    measures, page = folder / "measures.json", folder / "page.html"
    result = invoke("eval", prior_run, "--json", measures, "--report", page)
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(measures.read_text()), page.read_text()


def test_figures_are_those_of_the_training(evaluated, prior_run):
    printed, measures, _ = evaluated
    records = [json.loads(line) for line in (prior_run / "metrics.jsonl").read_text().splitlines()]
    (record,) = (
        each for each in records if each["step"] == measures["step"] and "eval/bits_per_dim" in each
    )
    for key in ("bits_per_code", "bits_per_code_by_level", "bits_per_dim", "train_bits_per_code"):
        assert measures[key] == pytest.approx(record[f"eval/{key}"], rel=1e-5)
    assert f"{'bits_per_code':<30}{measures['bits_per_code']:.4f}   95 %: " in printed
    assert in_words(measures["nearest_ratio"]) in printed


def test_page_has_what_was_drawn_and_measured(evaluated):
    _, measures, page = evaluated
    assert page.count("<img") == 2 + 8 * 3  # samples, each level alone; nearest images
    assert all(part.startswith('"data:') for part in page.split("<img src=")[1:])
    assert "64 samples, not chosen" in page
    assert f"{measures['nearest_ratio']:.2f} times as far" in page
    assert "Bits of a code" in page  # over training


@pytest.mark.parametrize(
    "flag", ["--baselines", "--split=train", "--card=c.md", "--worker=0/2", "--finish"]
)
def test_flags_of_autoencoders_are_refused(invoke, one_line, prior_run, flag, tmp_path):
    flag = flag.replace("c.md", str(tmp_path / "c.md"))
    result = invoke("eval", prior_run, flag)
    assert result.exit_code == 2
    assert "measured on test codes" in one_line(result.stderr)
    assert not list(tmp_path.iterdir())


def test_codes_that_moved_are_given_and_images_are_not_encoded_into_the_run(
    invoke, one_line, prior_run, image_folder, evaluated, tmp_path
):
    shutil.copytree(prior_run, tmp_path / "run")
    (tmp_path / "run" / "codes").rename(tmp_path / "codes")
    refused = invoke("eval", tmp_path / "run", "--data", image_folder)
    assert refused.exit_code == 2
    assert "holds no codes" in one_line(refused.stderr)
    assert not (tmp_path / "run" / "codes").exists()
    out = tmp_path / "measures.json"
    result = invoke("eval", tmp_path / "run", "--data", tmp_path / "codes", "--json", out)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text()) == evaluated[1]
