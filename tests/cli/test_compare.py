"""`avq eval --compare` and `--card`."""

import json
import shutil

import pytest
import yaml


@pytest.fixture
def twin(run, tmp_path):
    """A copy of the run."""
    return shutil.copytree(run, tmp_path / "twin")


def test_runs_are_measured_on_the_same_images(run, twin, invoke, tmp_path):
    written, report, card = (tmp_path / name for name in ("c.json", "c.html", "README.md"))
    result = invoke(
        *("eval", run, "--compare", twin, twin, "--json", written),
        *("--report", report, "--card", card),
    )
    assert result.exit_code == 0, result.output
    measures = json.loads(written.read_text())
    (other,) = measures["compare"].values()
    assert other["psnr"] == measures["psnr"]
    assert other["difference"]["psnr"] == [0, 0, 0]
    assert result.stdout.count("+0.0000 (+0.0000 to +0.0000)") >= 2
    assert "Comparison" in report.read_text()
    front = yaml.safe_load(card.read_text().split("---\n")[1])
    (psnr, *_) = front["model-index"][0]["results"][0]["metrics"]
    assert psnr["value"] == measures["psnr"]


def test_run_of_other_images_is_refused_before_any_work(run, twin, invoke, one_line):
    dataset = json.loads((twin / "dataset.json").read_text())
    hashes = dataset["name_hashes"]
    dataset["name_hashes"] = {"train": hashes["test"], "test": hashes["train"]}
    (twin / "dataset.json").write_text(json.dumps(dataset))
    result = invoke("eval", run, "--compare", twin)
    assert result.exit_code == 2
    assert "was trained and tested on other images" in one_line(result.stderr)
    assert result.stdout == ""


def test_second_run_without_compare_is_refused(run, twin, invoke, one_line):
    result = invoke("eval", run, twin)
    assert result.exit_code == 2
    assert "Give --compare before other runs." in one_line(result.stderr)


def test_folder_that_is_no_run_is_refused(run, invoke, one_line, tmp_path):
    result = invoke("eval", run, "--compare", tmp_path)
    assert result.exit_code == 2
    assert "is not a run" in one_line(result.stderr)
