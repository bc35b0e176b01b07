"""`avq eval` with weight files."""

import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest

from avq.evaluate import network_metrics
from avq.evaluate.distances import kernel_distances


class Difference:
    """Mean absolute difference, in place of a perceptual distance that takes long."""

    def __init__(self, kind):
        assert kind == "vgg"

    def apply(self, variables, images, targets):
        return jnp.mean(jnp.abs(images - targets), axis=(1, 2, 3))


def mean_colour(variables, images):
    """The same for features."""
    colour = jnp.mean(images.astype(jnp.float32), axis=(1, 2)) / 255
    return jnp.pad(colour, ((0, 0), (0, 2045)))


def test_eval_with_weight_files_measures_and_names_them(
    run, invoke, tokenizer, images, weight_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(network_metrics, "inception_features", mean_colour)
    monkeypatch.setattr(network_metrics, "LPIPS", Difference)
    files = {kind: weight_file(kind) for kind in ("inception", "vgg")}
    written, page = tmp_path / "measures.json", tmp_path / "page.html"
    options = ("--inception", files["inception"], "--no-fid", "--lpips", files["vgg"])
    outputs = ("--json", written, "--report", page)
    result = invoke("eval", run, *options, *outputs)
    assert result.exit_code == 0, result.output
    measures = json.loads(written.read_text())
    digests = {kind: hashlib.sha256(file.read_bytes()).hexdigest() for kind, file in files.items()}
    assert measures["weights"] == {"inception": digests["inception"], "lpips_vgg": digests["vgg"]}
    for digest in digests.values():
        assert digest in result.stdout
        assert digest in page.read_text()
    made = np.asarray(tokenizer.reconstruct(images))
    difference = np.abs(made / 127.5 - images / 127.5).mean()
    assert measures["lpips_vgg"] == pytest.approx(difference, rel=1e-4)
    low, high = measures["interval"]["lpips_vgg"]
    assert low < measures["lpips_vgg"] < high
    features = [np.asarray(mean_colour({}, jnp.asarray(x))) for x in (made, images)]
    assert measures["kid"] == pytest.approx(kernel_distances(*features)[0], rel=1e-3)
    assert not {"fid", "kid_std", "lpips_alex"} & set(measures)


def test_eval_refuses_a_frechet_distance_of_few_images(run, invoke, one_line):
    result = invoke("eval", run, "--inception", "weights.pth")
    assert result.exit_code == 2
    assert "needs at least as many images, and there are 4." in one_line(result.stderr)
    assert "--no-fid" in result.stderr
