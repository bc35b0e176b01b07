"""A quantiser, a loss term, a metric and a source of images from outside avq, each one object and
one line, in one run: it trains, and they show in `avq eval` and in the report.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from avq import cli, tasks
from avq.data.sources import SOURCES
from avq.evaluate.metrics import METRICS, Mean, Metric
from avq.losses import TERMS
from avq.models.quantizers import QUANTIZERS, CodebookStatistics, Quantized, Quantizer
from avq.models.quantizers.base import straight_through
from avq.settings import setting
from avq.train import loop


class Sign(Quantizer):
    """One bit a channel: the sign."""

    sign_dim: int = setting(3, "bits of a code", low=1)
    codebook_size = property(lambda self: 2**self.sign_dim)
    code_dim = property(lambda self: self.sign_dim)

    def codebook(self):
        bits = jnp.arange(self.codebook_size)[:, None] >> jnp.arange(self.code_dim)[None]
        return 2.0 * (bits & 1) - 1

    def __call__(self, z, train):
        z = z.astype(jnp.float32)
        codes = jnp.einsum("bhwd,d->bhw", (z > 0).astype(jnp.int32), 2 ** jnp.arange(self.code_dim))
        vectors = self.lookup(codes)
        loss = jnp.mean((z - vectors) ** 2)
        return Quantized(
            straight_through(z, vectors),
            codes,
            loss,
            CodebookStatistics(self.count_codes(codes, train)),
        )


def darkness(outputs, targets, frozen):
    """How dark reconstructions are."""
    return jnp.mean(1 - outputs.images)


class Brightness(Metric[Mean]):
    """Mean value of the reconstructions."""

    meaning = {"brightness": "mean of <all> values"}  # noqa: RUF012

    def batch(self, images, targets, codes, mask, about):
        return Mean.over(jnp.mean(images, axis=(1, 2, 3)), mask)

    def summary(self, sums, about):
        return {"brightness": sums.value()}


class Stripes:
    """Endless stripes of random widths."""

    augment = False

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        width = np.random.default_rng(index).integers(1, 5)
        rows = (np.arange(16) // width % 2 * 255).astype(np.uint8)
        return np.tile(rows[:, None, None], (1, 16, 3))

    def name(self, index):
        return f"stripe {index}"


def open_stripes(data):
    """Opens `stripes:COUNT`."""
    if not data.path.startswith("stripes:"):
        return None
    count = int(data.path.partition(":")[2])
    return {"train": Stripes(count), "test": Stripes(count // 2)}


@pytest.fixture(scope="module")
def evaluated(plain, tmp_path_factory):
    """The run's folder, its `avq eval --json` and its report."""
    folder = tmp_path_factory.mktemp("strangers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUANTIZERS, "sign", Sign)
        patch.setitem(TERMS, "darkness", darkness)
        patch.setitem(METRICS, "brightness", Brightness())
        patch.setitem(SOURCES, "stripes", open_stripes)
        chosen = {"model.quantizer": "sign", "loss.terms.darkness": 0.5, "data.path": "stripes:16"}
        more = [f"--config.{key}={value}" for key, value in chosen.items()]
        task = tasks.make_task(tasks.load([*plain, *more, "--config.train.steps=2"]))
        assert loop.train(task, str(folder / "run")) == 0
        files = ["--json", str(folder / "eval.json"), "--report", str(folder / "report.html")]
        result = CliRunner().invoke(cli.app, ["eval", str(folder / "run"), *files])
        assert result.exit_code == 0, result.output
    measures = json.loads((folder / "eval.json").read_text())
    return folder / "run", measures, (folder / "report.html").read_text()


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_quantiser_trains_and_its_codes_are_measured(evaluated):
    run, measures, report = evaluated
    (trained,) = (record for record in records(run) if "train/loss" in record)
    assert len(trained["train/usage"]) == 1
    assert np.isfinite(trained["train/quantization"])
    assert measures["bits_per_pixel"] == 3 * 4 * 4 / 16**2  # 3 bits a code, 4x4 codes
    assert 1 <= measures["active_codes"][0] <= 8
    assert '"quantizer": "sign"' in report.replace("&quot;", '"')
    assert json.loads((run / "config.json").read_text())["model"]["sign_dim"] == 3


def test_loss_term_is_a_part_of_the_loss_by_its_weight(evaluated):
    run, _, report = evaluated
    (trained,) = (record for record in records(run) if "train/loss" in record)
    expected = trained["train/mae_over_var"] + 0.5 * trained["train/darkness"]
    assert trained["train/reconstruction"] == pytest.approx(expected, rel=1e-5)
    assert '"darkness": 0.5' in report.replace("&quot;", '"')


def test_metric_shows_with_its_meaning(evaluated):
    run, measures, report = evaluated
    assert -1 <= measures["brightness"] <= 1
    evaluation = [record for record in records(run) if "eval/n" in record][-1]
    assert evaluation["eval/brightness"] == pytest.approx(measures["brightness"], abs=1e-6)
    assert "mean of &lt;all&gt; values" in report
    assert f"{measures['brightness']:.4f}" in report


def test_source_is_chosen_by_its_path(evaluated):
    run, measures, report = evaluated
    assert (measures["n"], measures["data"]) == (8, "stripes:16")
    assert json.loads((run / "dataset.json").read_text())["counts"] == {"train": 16, "test": 8}
    assert "stripes:16" in report
