"""Model card."""

import yaml

from avq.evaluate.metrics import meanings
from avq.evaluate.network_metrics import InceptionDistances
from avq.networks.lpips import NETWORKS
from avq.report.card import METRICS, card

from .report_helpers import VALUES, made_report


def front_and_body(text):
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_metadata_has_what_a_model_index_requires():
    values = VALUES | {"data": "/home/me/faces.zip"}
    front, _ = front_and_body(card(made_report(values=values, title="/home/me/runs/ah")))
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == "ah"
    assert result["task"]["type"] == "image-to-image"
    assert result["dataset"] == {"type": "faces.zip", "name": "faces.zip", "split": "test"}
    metrics = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert metrics == {key: VALUES[key] for key in ("psnr", "ssim", "mae", "bits_per_pixel")}


def test_figures_that_hubs_show_are_keys_of_an_evaluation():
    by_networks = {*InceptionDistances.meaning, *(f"lpips_{kind}" for kind in NETWORKS)}
    assert set(METRICS) <= meanings().keys() | by_networks


def test_figures_stand_with_their_intervals():
    _, body = front_and_body(card(made_report()))
    assert "| psnr | 21.5000 | 20.2500 to 22.7500 | signal & noise |" in body
    assert "| active_codes | 7, 3 |" in body
    assert "200 steps of 8 images" in body
    assert "5 min of training steps" in body


def test_names_of_folders_are_not_published():
    values = VALUES | {"data": "/home/me/faces.zip"}
    text = card(made_report(values=values, title="/home/me/runs/ah"))
    assert "/home" not in text
