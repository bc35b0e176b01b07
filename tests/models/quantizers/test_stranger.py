"""A quantiser from outside the package: one class and one line of registration make it a model."""

import itertools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from avq.describe import as_table, describe
from avq.models.build import make_autoencoder, model_kinds
from avq.models.quantizers import QUANTIZERS, CodebookStatistics, Quantized, Quantizer
from avq.models.quantizers.base import straight_through
from avq.settings import require_valid, setting, settings_of

from ..model_helpers import normal, random_variables


class Rounding(Quantizer):
    """Rounds each channel to one of a few values in [-1, 1]; there is no table to learn."""

    values_per_channel: int = setting(3, "values that a channel is rounded to", low=2)
    code_dim = 2

    @property
    def codebook_size(self):
        return self.values_per_channel**self.code_dim

    def codebook(self):
        values = jnp.linspace(-1.0, 1.0, self.values_per_channel)
        return jnp.array(list(itertools.product(values, repeat=self.code_dim)))

    def __call__(self, z, train):
        z = jnp.tanh(z.astype(jnp.float32))
        steps = self.values_per_channel - 1
        digits = jnp.round((z + 1) / 2 * steps).astype(jnp.int32)
        place = self.values_per_channel ** jnp.arange(self.code_dim)[::-1]
        codes = jnp.sum(digits * place[None, None, None], axis=-1)
        vectors = 2 * digits.astype(jnp.float32) / steps - 1
        vectors = straight_through(z, vectors) if train else vectors
        statistics = CodebookStatistics(self.count_codes(codes, train))
        return Quantized(vectors, codes, jnp.zeros(()), statistics)


MODEL = {
    "quantizer": "rounding",
    "values_per_channel": 5,
    "base_filters": [3, 4],
    "aren_filters": 4,
    "decoder_filters": [4, 3, 3],
    "encoder_blocks": 1,
    "attention_dim": 4,
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(QUANTIZERS, "rounding", Rounding)


def test_its_settings_are_keys_of_the_section_model():
    settings = settings_of(*model_kinds())
    assert settings["values_per_channel"].meaning == "values that a channel is rounded to"
    require_valid("model", {k: s.default for k, s in settings.items()} | MODEL, settings)


def test_it_encodes_decodes_and_reconstructs():
    model: Any = make_autoencoder(MODEL)
    images = normal(2, 16, 16, 3)
    variables = random_variables(model, images)
    assert set(variables) == {"params", "batch_stats"}
    codes = model.apply(variables, images, method="encode")
    chex.assert_shape(codes, [(2, 4, 4)])
    assert all(0 <= grid.min() < grid.max() < 25 for grid in codes)
    reconstruction = model.apply(variables, images)
    decoded = model.apply(variables, codes, method="decode")
    chex.assert_trees_all_close(decoded, reconstruction.images, rtol=1e-5, atol=1e-5)
    chex.assert_equal_shape([decoded, images])


def test_training_reaches_the_encoder_through_it(key):
    model = make_autoencoder(MODEL)
    images = normal(2, 16, 16, 3)
    variables = random_variables(model, images)

    def loss(params):
        state = variables | {"params": params}
        result, _ = model.apply(state, images, True, mutable=["batch_stats"])
        _, updated = model.apply(
            state,
            tuple(level.statistics for level in result.levels),
            mutable=["codebook"],
            method="update_codebooks",
        )
        assert not updated
        return jnp.sum(result.images**2), result.levels

    gradients, levels = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert jnp.abs(gradients["encoder"]["base"]["stem"]["kernel"]).max() > 1e-4
    assert [float(level.statistics.counts.sum()) for level in levels] == [32, 8]


def test_describe_counts_no_table_and_the_bits_of_its_codes():
    config = ConfigDict(
        {
            "data": {"image_size": 16, "channels": 3},
            "model": MODEL,
            "loss": {"adversarial_weight": 0.0},
        }
    )
    report = describe(config)
    rows = {row["name"]: row for row in report["modules"]}
    assert rows["codebook 1"] == {"name": "codebook 1", "output": [25, 2], "total": 0}
    assert sum(row["total"] for row in rows.values()) == report["vqvae"]["total"]
    assert report["bits_per_image"] == pytest.approx(16 * math.log2(25))
    assert "25 x 2" in as_table(report)
