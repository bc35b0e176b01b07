"""Settings of the losses."""

import pytest

from avq.errors import InputError
from avq.losses import TERMS, Loss
from avq.settings import construct, require_valid, settings_of

OTHERS = ("mse_over_var", "lpips")
PAPER = {
    "terms": {"mae_over_var": 1.0, **dict.fromkeys(OTHERS, 0.0)},
    "adversarial": "non_saturating",
    "adversarial_weight": 0.065,
    "adversarial_adaptive": False,
    "adversarial_start": 0,
    "quantization_start": 0,
    "r1": 0.0,
    "lecam": 0.0,
    "feature_matching": 0.0,
    "lpips_weights": "",
}


def test_defaults_are_the_papers():
    require_valid("loss", PAPER, settings_of(Loss))
    assert Loss() == construct(Loss, PAPER)
    assert set(Loss().terms) == set(TERMS)


def test_term_registered_later_has_weight_0_until_it_is_chosen(monkeypatch):
    monkeypatch.setitem(TERMS, "other", lambda *_: None)
    assert Loss().terms == {"mae_over_var": 1.0, **dict.fromkeys((*OTHERS, "other"), 0.0)}
    assert settings_of(Loss)["terms"].default == Loss().terms


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("adversarial", "wasserstein", "is not one of non_saturating, hinge, least_squares"),
        ("adversarial_weight", -0.1, "not negative"),
        ("adversarial_weight", float("nan"), "has to be a number"),
        ("lecam", -0.1, "not negative"),
        ("lecam", True, "has to be a number"),
        ("feature_matching", -1.0, "not negative"),
        ("feature_matching", float("inf"), "has to be a number"),
        ("adversarial_start", -1, "between 0 and 2,147,483,647"),
        ("adversarial_start", 0.5, "whole number"),
        ("quantization_start", -1, "between 0 and 2,147,483,647"),
        ("terms", {"mae_over_var": "much"}, "numbers by name"),
        ("terms", 1.0, "numbers by name"),
        ("terms", {"mae_over_var": -1.0}, "not negative"),
    ],
)
def test_values_are_refused_by_name(key, value, message):
    with pytest.raises(InputError, match=rf"loss\.{key}=.*{message}"):
        require_valid("loss", PAPER | {key: value}, settings_of(Loss))


def test_weight_of_an_unknown_term_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match=r"loss\.terms\.mae_over_sigma: .* one of: mae_over_var"):
        construct(Loss, PAPER | {"terms": {"mae_over_sigma": 1.0}})
