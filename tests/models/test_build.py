"""Networks from the sections of a config, and the settings that these sections have."""

import jax.numpy as jnp
import pytest

from avq.errors import InputError
from avq.models.build import make_autoencoder, make_discriminator, model_kinds
from avq.models.discriminator import Discriminator
from avq.models.quantizers import QUANTIZERS, EMAQuantizer, GradientQuantizer
from avq.models.vqvae import VQVAE
from avq.settings import require_valid, settings_of

from .model_helpers import normal, random_variables

PAPER = {
    "architecture": "aren",
    "patch": 4,
    "width": 64,
    "levels": 2,
    "codebook_size": 1024,
    "code_dim": 256,
    "base_filters": (128, 128, 128),
    "aren_filters": 128,
    "decoder_filters": (128, 128, 128, 128),
    "encoder_blocks": 2,
    "decoder_blocks": 1,
    "stride_at": "last",
    "attention_dim": 128,
    "attention_form": "algorithm1",
    "attention_norm": "bias_clip",
    "norm": "batch",
    "decoder_inputs": "finest",
    "quantizer": "ema",
    "commitment": 0.25,
    "codebook_decay": 0.99,
    "revive_below": 0.03,
    "revive_by": "latents",
    "fill": "latents",
    "matching": 0.0,
    "code_entropy": 0.0,
    "code_temperature": 0.01,
    "estimator": "straight_through",
    "unit_length": False,
    "fsq_levels": (8, 6, 5),
    "bits": 8,
    "binary_commitment": 0.25,
    "entropy_weight": 0.1,
    "parts": 2,
    "dtype": "float32",
    "remat": False,
    "sync_batch_norm": True,
}

WIDTH = "between 1 and 65,536"


def settings():
    return settings_of(*model_kinds())


def bound_quantizers(model):
    """The quantisers of a model, finest level first."""
    return model.bind(random_variables(model, normal(1, 32, 32, 3))).encoder.quantizers


def test_defaults_are_the_papers_setting():
    assert {name: s.default for name, s in settings().items()} == PAPER
    discriminator = {name: s.default for name, s in settings_of(Discriminator).items()}
    assert discriminator == {"filters": (128, 128, 128, 64, 64, 1), "strides": (2, 2, 2, 1, 1, 1)}


def test_a_name_that_classes_share_means_the_same_in_all_of_them():
    shared = settings()
    for kind in model_kinds():
        for name, setting in settings_of(kind).items():
            first = shared[name]
            assert setting.meaning == first.meaning, (kind, name)
            assert setting.default == first.default, (kind, name)
            assert setting.range() == first.range(), (kind, name)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "quantizer",
            "kmeans",
            "one of ema, gradient, diveq, simvq, residual, product, fsq, lfq, bsq",
        ),
        ("stride_at", "middle", "one of first, last"),
        ("attention_form", "equation2", "one of algorithm1, equation3"),
        ("attention_norm", "softmax", "one of paper, mean, bias, bias_clip, off"),
        ("decoder_inputs", "coarsest", "one of finest, all"),
        ("dtype", "float16", "one of float32, bfloat16"),
        ("codebook_decay", 1.5, "between 0 and 1"),
        ("commitment", -0.1, "not negative"),
        ("revive_below", -0.1, "between 0 and 1"),
        ("encoder_blocks", -1, "between 0 and 100"),
        ("decoder_blocks", 101, "between 0 and 100"),
        ("levels", 0, "between 1 and 8"),
        ("codebook_size", 0, "between 1 and 16,777,216"),
        *((name, 0, WIDTH) for name in ("code_dim", "aren_filters", "attention_dim")),
        *((name, (4, 0), WIDTH) for name in ("base_filters", "decoder_filters")),
    ],
)
def test_value_outside_its_range_is_refused_by_name(name, value, problem):
    require_valid("model", PAPER, settings())
    with pytest.raises(InputError, match=rf"^model\.{name}=.*{problem}\.$"):
        require_valid("model", PAPER | {name: value}, settings())


@pytest.mark.parametrize(("name", "problem"), [("filters", WIDTH), ("strides", "between 1 and 8")])
def test_discriminators_lists_are_refused_below_1(name, problem):
    section = {k: s.default for k, s in settings_of(Discriminator).items()} | {name: (2, 0)}
    with pytest.raises(InputError, match=rf"^discriminator\.{name}=.*{problem}\.$"):
        require_valid("discriminator", section, settings_of(Discriminator))


def test_empty_section_makes_the_default_model():
    made, default = make_autoencoder({}), VQVAE()
    assert [getattr(made, name) for name in settings_of(VQVAE)] == [
        getattr(default, name) for name in settings_of(VQVAE)
    ]
    assert made.codebook_sizes() == default.codebook_sizes() == (1024, 1024)


@pytest.mark.parametrize(("name", "kind"), [("ema", EMAQuantizer), ("gradient", GradientQuantizer)])
def test_section_sets_autoencoder_and_quantisers(name, kind):
    section = {
        "levels": 3,
        "quantizer": name,
        "codebook_size": 8,
        "code_dim": 4,
        "commitment": 0.5,
        "codebook_decay": 0.9,
        "base_filters": [3, 3],
        "aren_filters": 3,
        "decoder_filters": [3, 3, 3],
        "attention_dim": 2,
    }
    model = make_autoencoder(section, "data")
    assert (model.base_filters, model.axis_name) == ((3, 3), "data")
    assert model.codebook_sizes() == (8, 8, 8)
    for quantizer in bound_quantizers(model):
        assert isinstance(quantizer, kind)
        assert (quantizer.codebook_size, quantizer.code_dim) == (8, 4)
        assert (quantizer.commitment, quantizer.axis_name) == (0.5, "data")
    if kind is EMAQuantizer:
        assert quantizer.codebook_decay == 0.9


def test_module_that_was_made_does_not_follow_its_section():
    section = dict(PAPER)
    model = make_autoencoder(section)
    section["codebook_size"] = 7
    assert model.codebook_sizes() == (1024, 1024)


@pytest.mark.parametrize(("synced", "axis_name"), [(True, "data"), (False, None)])
def test_discriminator_takes_compute_type_and_batch_norm_of_the_model(synced, axis_name):
    model = {"dtype": "bfloat16", "sync_batch_norm": synced}
    discriminator = make_discriminator({"filters": [4, 1], "strides": [2, 1]}, model, "data")
    assert (discriminator.filters, discriminator.strides) == ((4, 1), (2, 1))
    assert jnp.dtype(discriminator.dtype) == jnp.bfloat16
    assert discriminator.axis_name == axis_name
    assert make_discriminator({}, model).axis_name is None


def test_registered_quantiser_is_seen_at_once(monkeypatch):
    class Another(GradientQuantizer):
        pass

    monkeypatch.setitem(QUANTIZERS, "another", Another)
    assert Another in model_kinds()
    require_valid("model", PAPER | {"quantizer": "another"}, settings())
    section = {"quantizer": "another", "codebook_size": 5}
    assert make_autoencoder(section).codebook_sizes() == (5, 5)
    assert settings()["quantizer"].range() == f"one of {', '.join(QUANTIZERS)}"
    assert settings()["quantizer"].range().endswith(", another")
