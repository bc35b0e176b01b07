"""A metric from outside avq shows in the measures of an evaluation and in the report."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from avq import parallel
from avq.evaluate.evaluation import Evaluator, samples
from avq.evaluate.metrics import METRICS, Mean, Metric, meanings
from avq.report.page import page

from ...report.report_helpers import VALUES, made_inside, made_report
from ..evaluation_helpers import SUMMARY, Dimmer, image_set


class Brightness(Metric[Mean]):
    """Change of the mean pixel, in units of the training pixels' standard deviation."""

    meaning: Mapping[str, str] = {"brightness": "change of the mean pixel & <its> sign"}

    def batch(self, images, targets, codes, mask, about):
        return Mean.over(jnp.mean(images - targets, axis=(1, 2, 3)), mask)

    def summary(self, sums, about):
        return {"brightness": sums.value() / about.pixel_std}


def test_registered_metric_is_measured_and_reported(monkeypatch, image_folder):
    monkeypatch.setitem(METRICS, "brightness", Brightness())
    images = image_set(image_folder)
    evaluator = Evaluator(Dimmer(), parallel.make_mesh(2))
    measures = evaluator.evaluate({"gain": jnp.float32(0.5)}, images, SUMMARY, 8).measures
    pictures = samples(images, SUMMARY.size, n=20)
    halved = np.round((pictures / 127.5 - 1) / 2 * 127.5 + 127.5)  # as a file holds them
    expected = np.mean(halved - pictures) / 127.5 / 0.5
    assert list(measures)[-1] == "brightness"
    np.testing.assert_allclose(measures["brightness"], expected, rtol=1e-4)
    report = made_report(values=VALUES | measures, meanings=meanings())
    html = page(report, made_inside())
    name = "brightness<small>change of the mean pixel &amp; &lt;its&gt; sign</small>"
    assert f"<td>{name}</td><td>{expected:.4f}</td>" in html
